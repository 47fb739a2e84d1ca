// Loading and letting go: what is said about memory is true, a load can be stopped, and an end is an end.

import { copyFile, mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.ts';
import { writeSafetensors } from '../../lib/checkpoint/write-safetensors.ts';
import { type LoadOptions, loadModel } from '../../lib/model/load.ts';
import { allocateWeights, readWeights } from '../../lib/model/load-weights.ts';
import { openModel } from '../../lib/model/open-model.ts';
import { planWeights } from '../../lib/model/weight-plan.ts';
import { decoderWeights } from '../../lib/model/weights.ts';
import { native } from '../../lib/native/load.ts';
import { configOf, plainModel, writeModel } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { readCheckpointTensors } from '../reference/tensors.ts';
import { blocksFor, fillBatch } from './drive.ts';

const folder = await temporaryFolder();
const swiftkv = { ...plainModel, layers: 4, kvLayers: 2, group: 2, attentionBias: true };
const dir = join(folder, 'model');
await writeModel(dir, swiftkv);

const options: LoadOptions = { device: 'cpu', dtype: 'auto', maxRows: 32, maxSeqs: 4, threads: 1 };
const embedded = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
const ids = [3, 1, 4, 1, 5, 9, 2, 6];

describe('memory', () => {
  it.each([
    ['f32', 'auto'],
    ['bf16', 'auto'],
    ['bf16', 'fp8'],
    ['f32', 'int8'],
    ['bf16', 'int4'],
  ] as const)('of weights is what the plan says, %s %s', async (dtype, weightDtype) => {
    const device = native().openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
    try {
      const { checkpoint, config } = await openModel(dir);
      const plan = planWeights(decoderWeights(config), checkpoint.tensors, dtype, dir, weightDtype);
      const weights = await allocateWeights(native(), device, plan.tensors);
      for (const { key, bytes } of plan.tensors) expect([key, weights.get(key)!.byteLength]).toEqual([key, bytes]);
    } finally {
      device.close();
    }
  });

  it('reported is what native code holds', async () => {
    const runner = await loadModel(dir, options);
    const { bytes } = runner.info();
    expect(bytes.total).toBe(bytes.weights + bytes.kvPool + bytes.ropeTable + bytes.workspace);
    // Beside it: each allocation rounded up to a cache line, and the sampler table.
    const excess = runner.device.allocatedBytes - bytes.total;
    expect(excess).toBeGreaterThanOrEqual(0);
    expect(excess).toBeLessThan(64 * 100);
    expect(bytes.kvPool).toBe(runner.pool.byteLength);
    await runner.dispose();
  });

  it('that cannot be had is refused with the sum, before anything is taken', async () => {
    const before = native().residentBytes();
    const load = loadModel(dir, { ...options, kvCacheBytes: 2 ** 43 });
    await expect(load).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
    await expect(load).rejects.toThrow(/needs 8\.0 TiB: weights .*KV cache 8\.0 TiB, workspace/);
    expect(native().residentBytes() - before).toBeLessThan(64 * 2 ** 20);
  });
});

describe('weights', () => {
  it('arrive whole: fused, packed, with zeros where a part has no bias', async () => {
    const device = native().openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
    try {
      const { checkpoint, config } = await openModel(dir);
      const tensors = new Map(checkpoint.tensors);
      tensors.delete('model.layers.0.self_attn.k_proj.bias');
      const source = await readCheckpointTensors(checkpoint);
      const targets = [...decoderWeights(config)].map((target) =>
        target.key === 'layers.0.qkv_bias'
          ? { ...target, parts: target.parts.map((part, i) => (i === 1 ? { ...part, name: null } : part)) }
          : target,
      );
      const plan = planWeights(targets, tensors, 'f32', dir);
      const weights = await allocateWeights(native(), device, plan.tensors);
      await readWeights(native(), device, plan.segments, plan.sourceBytes, weights, {});
      for (const { key, parts, k } of targets) {
        const expected = parts.flatMap(({ name, rows }) =>
          name === null ? new Array<number>(rows * k).fill(0) : [...source.get(name)!.data],
        );
        expect([...weights.get(key)!.readFloats()], key).toEqual(expected);
      }
    } finally {
      device.close();
    }
  });

  it('report their progress up to the last byte', async () => {
    const seen: number[] = [];
    let total = 0;
    const runner = await loadModel(embedded('swiftkv-50'), {
      ...options,
      onProgress: ({ loadedBytes, totalBytes }) => {
        seen.push(loadedBytes);
        total = totalBytes;
      },
    });
    await runner.dispose();
    expect(seen.at(-1)).toBe(total);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it('that were cut after the headers were read end in ERR_IO', async () => {
    const cut = join(folder, 'cut');
    await writeModel(cut, plainModel);
    const { checkpoint, config } = await openModel(cut);
    const plan = planWeights(decoderWeights(config), checkpoint.tensors, 'auto', cut);
    await truncate(join(cut, 'model.safetensors'), 20_000);
    const device = native().openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
    try {
      const weights = await allocateWeights(native(), device, plan.tensors);
      const load = readWeights(native(), device, plan.segments, plan.sourceBytes, weights, {});
      await expect(load).rejects.toMatchObject({ code: 'ERR_IO' });
    } finally {
      device.close();
    }
  });
});

describe('a load that is stopped', () => {
  it('before it began', async () => {
    const load = loadModel(dir, { ...options, signal: AbortSignal.abort('why') });
    await expect(load).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: 'why' });
  });

  it('at any time gives its memory back', async () => {
    for (const after of [0, 1, 3, 10, 30]) {
      const controller = new AbortController();
      const load = loadModel(embedded('base'), { ...options, signal: controller.signal });
      setTimeout(() => controller.abort(), after);
      const failure = await load.then(
        (runner) => runner.dispose(),
        (error: unknown) => error,
      );
      if (failure !== undefined) expect(failure).toMatchObject({ code: 'ERR_ABORTED' });
    }
  });
});

describe('wrong options', () => {
  it.each([
    [{ device: 'vulkan' }, 'ERR_INVALID_ARGUMENT', /device to be 'cpu', 'cuda' or 'cuda:N'/],
    [{ dtype: 'f16' }, 'ERR_INVALID_ARGUMENT', /dtype/],
    [{ kvCacheDtype: 'int8' }, 'ERR_INVALID_ARGUMENT', /kvCacheDtype/],
    [{ isa: 'mmx' }, 'ERR_INVALID_ARGUMENT', /mmx/],
    [{ threads: 0 }, 'ERR_INVALID_ARGUMENT', /threads/],
    [{ maxModelLen: 1e6 }, 'ERR_INVALID_ARGUMENT', /max_position_embeddings/],
  ])('%j', async (wrong, code, message) => {
    const load = loadModel(dir, { ...options, ...wrong } as LoadOptions);
    await expect(load).rejects.toMatchObject({ code });
    await expect(load).rejects.toThrow(message);
  });

  it('a source that is nothing', async () => {
    await expect(loadModel('', options)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
    await expect(loadModel(join(folder, 'none'), options)).rejects.toMatchObject({ code: 'ERR_MODEL_NOT_FOUND' });
  });
});

describe('teacher mode', () => {
  it('runs the base inside a SwiftKV checkpoint', async () => {
    const teacher = join(folder, 'teacher');
    await mkdir(teacher);
    await copyFile(join(dir, 'model.safetensors'), join(teacher, 'model.safetensors'));
    await writeFile(join(teacher, 'config.json'), JSON.stringify({ ...configOf(swiftkv), swiftkv: false }));
    const base = join(folder, 'base-of-teacher');
    await mkdir(base);
    await copyFile(join(dir, 'model.safetensors'), join(base, 'model.safetensors'));
    await writeFile(join(base, 'config.json'), JSON.stringify(configOf({ ...swiftkv, kvLayers: null })));
    const logits = async (source: string) => {
      const runner = await loadModel(source, options);
      const result = await runner.logits(ids, [0]);
      const { mode } = runner.info();
      await runner.dispose();
      return { mode, result };
    };
    const [asTeacher, asBase, asStudent] = [await logits(teacher), await logits(base), await logits(dir)];
    expect([asTeacher.mode, asBase.mode, asStudent.mode]).toEqual(['teacher', 'plain', 'student']);
    expect(asTeacher.result).toEqual(asBase.result);
    expect(asStudent.result).not.toEqual(asBase.result);
  });
});

describe('an fp8 cache', () => {
  it('uses the scales of a checkpoint, per head, and says so', async () => {
    const scaled = join(folder, 'scaled');
    await writeModel(scaled, swiftkv);
    const { tensors } = await openCheckpoint(scaled);
    const source = await readCheckpointTensors({ tensors });
    const scale = Float32Array.of(0.01, 0.03);
    await writeModel(join(folder, 'scratch'), swiftkv);
    const out = join(folder, 'with-scales');
    await mkdir(out);
    await copyFile(join(scaled, 'config.json'), join(out, 'config.json'));
    await writeSafetensors(join(out, 'model.safetensors'), [
      ...[...source].map(([name, { shape, data }]) => ({
        name,
        dtype: 'F32' as const,
        shape,
        data: new Uint8Array(data.buffer),
      })),
      ...[0, 1, 2].flatMap((layer) =>
        ['k', 'v'].map((side) => ({
          name: `model.layers.${layer}.self_attn.${side}_scale`,
          dtype: 'F32' as const,
          shape: [2],
          data: new Uint8Array(scale.buffer),
        })),
      ),
    ]);
    const exact = await loadModel(scaled, options);
    const runner = await loadModel(out, { ...options, kvCacheDtype: 'fp8' });
    expect(runner.info()).toMatchObject({ kvScales: 'checkpoint', kvBytesPerToken: 3 * 2 * 2 * 8 });
    const slots = Int32Array.from(ids, (_, i) => i);
    for (const model of [exact, runner]) {
      fillBatch(model.batches[0], [{ row: 0, blocks: [0], ids, start: 0, survivors: 'none' }]);
      await model.run(model.batches[0]);
    }
    // The first cache depends on no other, so its values differ by their own quantization only: half a step of 3
    // mantissa bits, or half the smallest subnormal; 448 scale is never reached here.
    const [quantized, original] = [await runner.readCache(0, slots), await exact.readCache(0, slots)];
    for (const side of ['k', 'v'] as const) {
      quantized[side].forEach((value, i) => {
        const x = original[side][i]!;
        const s = scale[Math.floor(i / 8) % 2]!;
        expect(Math.abs(value - x)).toBeLessThanOrEqual(Math.max(Math.abs(x) * 2 ** -4, s * 2 ** -10) * 1.0001);
      });
    }
    await exact.dispose();
    await runner.dispose();
  });

  it('has dynamic scales where a checkpoint has none', async () => {
    const runner = await loadModel(dir, { ...options, kvCacheDtype: 'fp8' });
    expect(runner.info()).toMatchObject({ kvScales: 'dynamic', kvBytesPerToken: 3 * 2 * 2 * (8 + 4) });
    expect((await runner.logits(ids, [0])).every(Number.isFinite)).toBe(true);
    await runner.dispose();
  });
});

describe('the end', () => {
  it('is an end: everything afterwards is refused, a second dispose is the first', async () => {
    const runner = await loadModel(dir, options);
    const first = runner.dispose();
    expect(runner.dispose()).toBe(first);
    await first;
    await expect(runner.run(runner.batches[0])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await expect(runner.logits(ids, [0])).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    expect(() => runner.readLogits(1)).toThrow(expect.objectContaining({ code: 'ERR_DISPOSED' }));
    expect(() => runner.cancel()).not.toThrow();
  });

  it('waits for the step in flight', async () => {
    const runner = await loadModel(embedded('base'), { ...options, maxRows: 512 });
    const long = Array.from({ length: 512 }, (_, i) => i);
    fillBatch(runner.batches[0], [{ row: 0, blocks: blocksFor(512), ids: long, start: 0, survivors: 'last' }]);
    const step = runner.run(runner.batches[0]);
    await runner.dispose();
    await expect(step).resolves.toMatchObject({ ms: expect.any(Number) });
  });

  it('comes early for scoring', async () => {
    const runner = await loadModel(embedded('base'), options);
    const scoring = runner.logits(
      Array.from({ length: 2000 }, (_, i) => i),
      blocksFor(2000),
    );
    scoring.catch(() => {});
    await new Promise((resolve) => setImmediate(resolve)); // begun, and far from over
    await runner.dispose();
    await expect(scoring).rejects.toMatchObject({ code: expect.stringMatching(/ERR_ABORTED|ERR_DISPOSED/) });
  });

  it('returns the memory, load after load', async () => {
    const cycle = async () => {
      const runner = await loadModel(dir, { ...options, kvCacheBytes: 32 * 2 ** 20 });
      await runner.logits(ids, [0]);
      await runner.dispose();
    };
    for (let i = 0; i < 5; i++) await cycle();
    const before = native().residentBytes();
    for (let i = 0; i < 20; i++) await cycle();
    // Twenty pools would be 640 MiB.
    expect(native().residentBytes() - before).toBeLessThan(64 * 2 ** 20);
  });
});

describe('scoring', () => {
  it('refuses what no program could run', async () => {
    const runner = await loadModel(dir, options);
    for (const [tokens, blocks] of [
      [[], [0]],
      [[70], [0]],
      [[-1], [0]],
      [[0.5], [0]],
      [ids, []],
      [ids, [runner.numBlocks]],
      [new Array(257).fill(1), blocksFor(257)],
    ]) {
      await expect(runner.logits(tokens!, blocks!)).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    }
    await runner.dispose();
  });

  it('stops at a signal', async () => {
    const runner = await loadModel(embedded('base'), options);
    const tokens = Array.from({ length: 2000 }, (_, i) => i);
    const signal = AbortSignal.timeout(10);
    await expect(runner.logits(tokens, blocksFor(2000), signal)).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    await expect(runner.logits([1, 2], [0])).resolves.toHaveLength(2 * 4096);
    await runner.dispose();
  });

  it('of two texts at once keeps them apart', async () => {
    const runner = await loadModel(dir, options);
    const [a, b] = await Promise.all([runner.logits(ids, [0]), runner.logits([7, 7], [1])]);
    expect(await runner.logits(ids, [2])).toEqual(a);
    expect(await runner.logits([7, 7], [3])).toEqual(b);
    await runner.dispose();
  });
});

describe('models with random weights', () => {
  it('load without a file and stay finite', async () => {
    const runner = await loadModel('random:embedded?kv-layers=50%&group=4&seed=3', { ...options, kvCacheDtype: 'fp8' });
    expect(runner.info()).toMatchObject({ mode: 'student', dtype: 'bf16', numDistinctCaches: 5 });
    const logits = await runner.logits(ids, [0]);
    const deviation = Math.sqrt(logits.reduce((sum, x) => sum + x * x, 0) / logits.length);
    expect(deviation).toBeGreaterThan(0.1);
    expect(deviation).toBeLessThan(10);
    await runner.dispose();
  });

  it('are the same for the same seed', async () => {
    const logits = async (seed: number) => {
      const runner = await loadModel(`random:embedded?seed=${seed}`, options);
      const result = await runner.logits(ids, [0]);
      await runner.dispose();
      return result;
    };
    expect(await logits(1)).toEqual(await logits(1));
    expect(await logits(1)).not.toEqual(await logits(2));
  });
});
