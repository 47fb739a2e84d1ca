// Memory ends at every single allocation of a load: a coded error with the sum, nothing held, and the next load works.

import { expect, test, vi } from 'vitest';
import { Engine } from '../../../lib/engine/engine.ts';
import type { NativeBinding } from '../../../lib/native/binding.ts';
import { native } from '../../../lib/native/load.ts';

/** Allocating calls until one fails; negative: none does. */
const fault = { countdown: -1, calls: 0 };

vi.mock('../../../lib/native/load.ts', async (original) => {
  const module = (await original()) as { native: () => NativeBinding };
  const allocating = ['tensor', 'kvPool', 'samplerTable', 'batch', 'program'] as const;
  const real = module.native();
  const faulty = Object.create(real) as Record<string, unknown>;
  for (const name of allocating) {
    faulty[name] = (...args: unknown[]) => {
      fault.calls++;
      if (fault.countdown-- === 0)
        throw Object.assign(new Error(`no memory for a ${name}`), { code: 'ERR_OUT_OF_MEMORY' });
      return (real[name] as (...args: unknown[]) => unknown)(...args);
    };
  }
  return { ...module, native: () => faulty };
});

const small = { threads: 1, maxModelLen: 32, kvCacheBytes: 2 ** 17, maxBatchRows: 32, maxSequences: 2 };

test('an allocation of a load fails, each in turn', { timeout: 120_000 }, async () => {
  fault.calls = 0;
  const whole = await Engine.load('embedded:swiftkv-50-g4', small);
  await whole.dispose();
  const { calls } = fault;
  expect(calls).toBeGreaterThan(30);
  for (let k = 0; k < calls; k++) {
    fault.countdown = k;
    await expect(Engine.load('embedded:swiftkv-50-g4', small), `allocation ${k}`).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      message: expect.stringMatching(/^no memory for a \w+\. The model needs .*weights .*KV cache .*available are/),
    });
    expect(native().memory().total, `held after allocation ${k} failed`).toBe(0);
  }
  fault.countdown = -1;
  const engine = await Engine.load('embedded:swiftkv-50-g4', small);
  expect((await engine.generate({ prompt: 'Once', maxTokens: 2 }).result()).tokenIds).toHaveLength(2);
  await engine.dispose();
  expect(native().memory().total).toBe(0);
});
