// Bytes per token are a promise (they decide how many requests fit), and a wrong scale is a wrong answer.

import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readSafetensorsHeader } from '../../lib/checkpoint/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../../lib/checkpoint/write-safetensors.ts';
import { numDistinctCaches } from '../../lib/model/config.ts';
import { cacheSpecs, kvBytesPerToken, readStaticScales } from '../../lib/model/kv-cache.ts';
import { parseConfig } from '../../lib/model/parse-config.ts';
import { native } from '../../lib/native/load.ts';
import { toBf16 } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';

const folder = await temporaryFolder();
let count = 0;

const config = (fields: object = {}) =>
  parseConfig({
    model_type: 'llama_swiftkv',
    num_hidden_layers: 6,
    num_key_value_layers: 2,
    key_value_group_size: 2,
    hidden_size: 64,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    ...fields,
  });

describe('bytes per token', () => {
  it('are those of the published 8B shape', () => {
    const shape = { num_hidden_layers: 32, hidden_size: 4096, num_attention_heads: 32, num_key_value_heads: 8 };
    const bytes = (dtype: 'bf16' | 'fp8', n: number, g: number) =>
      kvBytesPerToken(cacheSpecs(config({ ...shape, num_key_value_layers: n, key_value_group_size: g }), dtype));
    expect(bytes('bf16', 32, 1)).toBe(131_072);
    expect(bytes('bf16', 16, 4)).toBe(81_920);
    // Dynamic scales are counted: 32.2 % of plain bf16 instead of 31.3 %.
    expect(bytes('fp8', 16, 4)).toBe(40_960 + 20 * 8 * 2 * 4);
  });

  it('are what the native pool takes, for every shape and dtype', () => {
    const device = native().openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
    try {
      fc.assert(
        fc.property(
          fc.constantFrom('f32' as const, 'bf16' as const, 'fp8' as const),
          fc.integer({ min: 1, max: 4 }),
          fc.integer({ min: 1, max: 20 }),
          fc.integer({ min: 0, max: 3 }),
          fc.boolean(),
          (dtype, kvHeads, halfHeadDim, later, fixed) => {
            const c = config({
              num_hidden_layers: 2 + 2 * later,
              num_key_value_heads: kvHeads,
              num_attention_heads: kvHeads,
              head_dim: 2 * halfHeadDim,
            });
            const ones = new Float32Array(kvHeads).fill(1);
            // The first cache with static scales, the others with dynamic ones.
            const specs = cacheSpecs(c, dtype, fixed ? [{ k: ones, v: ones }] : []);
            const pool = native().kvPool(device, 3, specs);
            expect(pool.numCaches).toBe(numDistinctCaches(c));
            expect(pool.blockBytes).toBe(16 * kvBytesPerToken(specs));
            expect(pool.byteLength).toBe(3 * pool.blockBytes);
            pool.dispose();
          },
        ),
        { numRuns: 60 },
      );
    } finally {
      device.close();
    }
  });
});

describe('static scales', () => {
  const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);

  async function read(scales: Record<string, Omit<TensorToWrite, 'name'>>) {
    const path = join(folder, `${count++}.safetensors`);
    await writeSafetensors(
      path,
      Object.entries(scales).map(([name, tensor]) => ({ name: `model.layers.${name}`, ...tensor })),
    );
    return readStaticScales(config(), await readSafetensorsHeader(path));
  }

  const scalar = (value: number) => ({ dtype: 'F32' as const, shape: [], data: f32(value) });

  it('are taken from the layer that writes the cache, under every name in use', async () => {
    const scales = await read({
      '0.self_attn.k_scale': scalar(0.5),
      '0.self_attn.v_scale': { dtype: 'F32', shape: [2, 1, 1], data: f32(0.25, 2) },
      '1.self_attn.k_proj.output_scale': { dtype: 'BF16', shape: [1], data: toBf16(Float32Array.of(3)) },
      '1.self_attn.v_proj.v_scale': { dtype: 'F16', shape: [1], data: new Uint8Array(Uint16Array.of(0x3e00).buffer) },
      '2.self_attn.k_proj_swiftkv.k_scale': scalar(4),
      '2.self_attn.v_proj_swiftkv.output_scale': scalar(5),
      '4.self_attn.kv_scale': scalar(6),
    });
    expect(scales.map((scale) => scale && [[...scale.k], [...scale.v]])).toEqual([
      [
        [0.5, 0.5],
        [0.25, 2],
      ],
      [
        [3, 3],
        [1.5, 1.5],
      ],
      [
        [4, 4],
        [5, 5],
      ],
      [
        [6, 6],
        [6, 6],
      ],
    ]);
  });

  it('of a follower, and of a later layer’s teacher projections, mean nothing', async () => {
    expect(
      await read({
        '3.self_attn.k_scale': scalar(9),
        '3.self_attn.v_scale': scalar(9),
        '2.self_attn.k_proj.k_scale': scalar(9),
        '2.self_attn.v_proj.v_scale': scalar(9),
      }),
    ).toEqual([null, null, null, null]);
  });

  it.each<[string, Record<string, Omit<TensorToWrite, 'name'>>, RegExp]>([
    ['one side only', { '0.self_attn.k_scale': scalar(1) }, /received one for k and none for v/],
    ['zero', { '0.self_attn.kv_scale': scalar(0) }, /above 0/],
    ['negative', { '0.self_attn.kv_scale': scalar(-1) }, /above 0/],
    ['NaN', { '0.self_attn.kv_scale': scalar(Number.NaN) }, /above 0/],
    ['too many', { '0.self_attn.kv_scale': { dtype: 'F32', shape: [3], data: f32(1, 1, 1) } }, /each of 2 heads/],
    ['none', { '0.self_attn.kv_scale': { dtype: 'F32', shape: [0], data: f32() } }, /each of 2 heads/],
    ['integers', { '0.self_attn.kv_scale': { dtype: 'I32', shape: [1], data: f32(1) } }, /dtypes/],
  ])('are refused when they are %s', async (_, scales, message) => {
    await expect(read(scales)).rejects.toMatchObject({ code: 'ERR_MODEL_INVALID' });
    await expect(read(scales)).rejects.toThrow(message);
  });
});
