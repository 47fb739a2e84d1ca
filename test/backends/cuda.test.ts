// The library for GPUs on a machine that has none: typed errors that say what was found and what to do, a process that
// lives on, and a cpu that still works.

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import { openDevice } from '../../lib/kernels/index.ts';
import { sideLibrary } from '../../lib/native/load.ts';

const small = fileURLToPath(new URL('../golden/data/llama_swiftkv_g2', import.meta.url));
const isBuilt = existsSync(sideLibrary('cuda'));
const hasDriver = existsSync('/proc/driver/nvidia/version') || existsSync('/dev/nvidia0');
const answer = async () => {
  await using engine = await Engine.load(small, { threads: 1 });
  return await engine.generate({ tokenIds: [1, 2, 3], maxTokens: 2, ignoreEos: true }).result();
};

describe.skipIf(isBuilt)('without the library', () => {
  it('cuda is refused with the command that builds it', async () => {
    await expect(Engine.load(small, { device: 'cuda' })).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(/libswiftkv_cuda\.so does not exist.*npm run build:cuda.*nvcc 13.*device cpu/),
    });
    expect((await answer()).tokenIds.length).toBe(2);
  });
});

describe.skipIf(!isBuilt || hasDriver)('with the library and no driver', () => {
  it.each(['cuda', 'cuda:0', 'cuda:7'] as const)('%s is refused: no CUDA device', async (device) => {
    for (let i = 0; i < 3; i++) {
      await expect(Engine.load(small, { device })).rejects.toMatchObject({
        code: 'ERR_UNSUPPORTED',
        message: expect.stringMatching(/^no CUDA device: no NVIDIA driver was found.*driver 580 or newer.*device cpu/),
      });
    }
    expect(() => openDevice({ backend: device })).toThrow(expect.objectContaining({ code: 'ERR_UNSUPPORTED' }));
    expect((await answer()).tokenIds.length).toBe(2);
  });
});

it('the addon names no library of CUDA, so that it loads where there is none', () => {
  const addon = readFileSync(sideLibrary('x').replace(/[^/]*$/, 'swiftkv.node'), 'latin1');
  expect(addon).not.toMatch(/lib(cuda|cublas|cudart)\w*\.so/);
});
