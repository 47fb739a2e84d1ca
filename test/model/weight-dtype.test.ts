// Models whose matrices are quantized: loaded, told what they are, and near the model they came from.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadModel } from '../../lib/model/load.ts';
import type { NativeModelRunner } from '../../lib/model/native-runner.ts';
import { blocksFor } from './drive.ts';

const embedded = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
const golden = (name: string) => fileURLToPath(new URL(`../golden/data/${name}`, import.meta.url));
const ids = [5, 100, 200, 300, 400, 17, 33, 1024, 2048, 999];
const base = { device: 'cpu', dtype: 'auto', maxRows: 16, maxSeqs: 2, maxLogitRows: 16 } as const;

async function logitsOf(source: string, options: Partial<Parameters<typeof loadModel>[1]>): Promise<Float32Array> {
  const runner = await loadModel(source, { ...base, ...options });
  try {
    return await runner.logits(ids, blocksFor(ids.length));
  } finally {
    await runner.dispose();
  }
}

/** RMS of the difference as a share of the logits' own deviation. */
function distance(a: Float32Array, b: Float32Array): number {
  const mean = b.reduce((sum, x) => sum + x, 0) / b.length;
  const deviation = Math.sqrt(b.reduce((sum, x) => sum + (x - mean) ** 2, 0) / b.length);
  return Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0) / b.length) / deviation;
}

describe.each(['base', 'swiftkv-50-g4'])('the embedded %s', async (name) => {
  const plain = await logitsOf(embedded(name), {});

  // Each scheme's error per product, grown by the model's layers; the lower bound shows that something was quantized.
  it.each([
    ['int8', 0.0005, 0.05],
    ['fp8', 0.005, 0.15],
    ['int4', 0.02, 0.5],
  ] as const)('keeps its logits with %s weights', async (weightDtype, least, most) => {
    const quantized = await logitsOf(embedded(name), { weightDtype });
    const share = distance(quantized, plain);
    expect(share).toBeGreaterThan(least);
    expect(share).toBeLessThan(most);
  });

  it('with FP8 activations too', async () => {
    const quantized = await logitsOf(embedded(name), { weightDtype: 'fp8', activationDtype: 'fp8' });
    expect(distance(quantized, plain)).toBeLessThan(0.25);
    expect(distance(quantized, await logitsOf(embedded(name), { weightDtype: 'fp8' }))).toBeGreaterThan(0.001);
  });
});

describe('what was chosen', () => {
  const infoOf = async (source: string, options: object) => {
    const runner: NativeModelRunner = await loadModel(source, { ...base, ...options });
    const info = runner.info();
    const excess = runner.device.allocatedBytes - info.bytes.total;
    await runner.dispose();
    return { ...info, excess };
  };

  it('is told, and takes the bytes that were planned', async () => {
    const info = await infoOf(embedded('swiftkv-50'), { weightDtype: 'int4' });
    expect(info).toMatchObject({ weightDtypes: ['int4', 'int8'], activationDtype: 'bf16', checkpointDtypes: ['bf16'] });
    expect(info.notes).toContain('matrices stored as bf16 were quantized to int4 and int8 at load');
    // Beside the plan: each allocation rounded up to a cache line, and the sampler table.
    expect(info.excess).toBeGreaterThanOrEqual(0);
    expect(info.excess).toBeLessThan(64 * 150);
  });

  it('for an FP8 checkpoint is FP8, without a note of quantizing', async () => {
    const info = await infoOf(golden('llama_swiftkv_fp8'), { activationDtype: 'fp8' });
    expect(info).toMatchObject({ weightDtypes: ['fp8', 'bf16'], activationDtype: 'fp8', dtype: 'bf16' });
    expect(info.notes.filter((note) => note.includes('quantized'))).toEqual([]);
  });

  it('is refused where it cannot be', async () => {
    await expect(infoOf(embedded('base'), { activationDtype: 'fp8' })).rejects.toThrow(
      /activationDtype fp8 needs FP8 weights, but layers\.0\.qkv is kept in bf16/,
    );
    await expect(infoOf(golden('llama_swiftkv_fp8'), { weightDtype: 'int4' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
    await expect(infoOf(embedded('base'), { weightDtype: 'q4_0' })).rejects.toThrow(/one of auto, fp8, int8, int4/);
  });

  it('holds for random weights', async () => {
    const info = await infoOf('random:embedded?kv-layers=50%&group=2', { weightDtype: 'int8' });
    expect(info.weightDtypes).toEqual(['int8']);
  });
});
