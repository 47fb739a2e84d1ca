// The library for GPUs on a machine that has none: typed errors that say what was found and what to do, a process that
// lives on, and a cpu that still works.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

/** A driver that only has a version stands in for the real one, in a process of its own. */
describe.skipIf(!isBuilt)('with the library and a driver', () => {
  const program = (name: string) => fileURLToPath(new URL(`programs/${name}`, import.meta.url));
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'swiftkv-driver-'));
    execFileSync('cc', ['-shared', '-fPIC', '-o', join(folder, 'libcuda.so.1'), program('driver.c')]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    [
      '12.4, which is too old',
      '12040',
      /^no CUDA device: the NVIDIA driver is too old: it supports CUDA 12\.4, this build needs 13\.0; install driver 580/,
    ],
    ['13.1 that shows no device', '13010', /^no CUDA device: the driver \(CUDA 13\.1\) shows none: cudaErrorNoDevice;/],
  ])('of CUDA %s: a typed error, and the cpu works on', (_, version, message) => {
    const env = { ...process.env, LD_LIBRARY_PATH: folder, SWIFTKV_TEST_DRIVER: version };
    const run = spawnSync(process.execPath, [program('no-device.mjs')], { encoding: 'utf8', env });
    expect([run.status, run.signal, run.stderr]).toEqual([0, null, '']);
    const { said, tokenIds } = JSON.parse(run.stdout);
    const refused = { code: 'ERR_UNSUPPORTED', message: expect.stringMatching(message) };
    expect(said).toEqual([refused, refused]);
    expect(tokenIds.length).toBe(2);
  });
});

it('the addon names no library of CUDA, so that it loads where there is none', () => {
  const addon = readFileSync(sideLibrary('x').replace(/[^/]*$/, 'swiftkv.node'), 'latin1');
  expect(addon).not.toMatch(/lib(cuda|cublas|cudart)\w*\.so/);
});
