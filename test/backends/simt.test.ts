// The runtime of a device whose memory is not the process's, on the stand-in that executes kernels on the host: limits of
// memory, steps that are stopped, several engines, and that nothing of it harms the cpu.

import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import type { EngineOptions } from '../../lib/engine/types.ts';
import { openDevice, ops, Tensor } from '../../lib/kernels/index.ts';
import { loadModel } from '../../lib/model/load.ts';
import { native } from '../../lib/native/load.ts';
import { blocksFor, fillBatch } from '../model/drive.ts';

const folder = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
const swiftkv = folder('models/swiftkv-50');
const small = folder('test/golden/data/llama_swiftkv_g2');
const options: EngineOptions = { device: 'simt', maxModelLen: 128, kvCacheBytes: 1 << 20, threads: 2 };
const tokens = (length: number) => Array.from({ length }, (_, i) => (i * 37 + 11) % 250);
const greedy = async (engine: Engine, length: number, maxTokens = 8) =>
  (await engine.generate({ tokenIds: tokens(length), maxTokens, temperature: 0, ignoreEos: true }).result()).tokenIds;

afterEach(() => expect(native().memory().total, 'bytes that are left').toBe(0));

describe('an engine on simt', () => {
  it.each([64, 200])('gives the tokens of the cpu after a prompt of %i tokens', async (length) => {
    const answers = [];
    for (const device of ['cpu', 'simt'] as const) {
      await using engine = await Engine.load(swiftkv, { ...options, device, maxModelLen: 256 });
      answers.push(await greedy(engine, length));
    }
    expect(answers[1]).toEqual(answers[0]);
  });

  it.each(['simt:1', 'simt:2', 'simt:3'] as const)('gives the same tokens with the choices for %s', async (device) => {
    await using first = await Engine.load(small, options);
    await using engine = await Engine.load(small, { ...options, device });
    expect(engine.info().level).not.toBe(first.info().level);
    expect(await greedy(engine, 40)).toEqual(await greedy(first, 40));
  });

  it('says what it runs on', async () => {
    await using engine = await Engine.load(small, { ...options, batchInvariant: false, memoryLimit: 1 << 28 });
    const { backend, level, device, batchInvariant } = engine.info();
    expect({ backend, level, batchInvariant }).toEqual({ backend: 'simt', level: 'sm_80', batchInvariant: false });
    expect(device).toMatchObject({ arch: 'sm_80', freeBytes: 1 << 28, totalBytes: 2 ** 33, linear: 'swiftkv' });
    expect(device!.linearReason).not.toBe('');
  });

  it('runs beside others, on one device and on the cpu', async () => {
    const devices = ['simt', 'cpu', 'simt', 'simt:2'] as const;
    const engines = await Promise.all(
      devices.map((device) => Engine.load(small, { ...options, device, dtype: 'f32' })),
    );
    const answers = await Promise.all(engines.flatMap((e) => [greedy(e, 20), greedy(e, 33)]));
    for (let i = 2; i < answers.length; i++) expect(answers[i]).toEqual(answers[i % 2]);
    await engines[0]!.dispose();
    expect(await greedy(engines[2]!, 20)).toEqual(answers[0]);
    await Promise.all(engines.map((e) => e.dispose()));
  });

  it('is disposed of while busy, and a request that is aborted leaves the next one whole', async () => {
    const engine = await Engine.load(small, options);
    const expected = await greedy(engine, 30);
    const controller = new AbortController();
    const aborted = engine.generate({ tokenIds: tokens(60), ignoreEos: true, signal: controller.signal }).result();
    setTimeout(() => controller.abort(), 30);
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(await greedy(engine, 30)).toEqual(expected);
    const busy = engine.generate({ tokenIds: tokens(60), ignoreEos: true }).result();
    const rejected = expect(busy).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await new Promise((resolve) => setTimeout(resolve, 30));
    await engine.dispose();
    await rejected;
  });
});

describe('device memory', () => {
  it('that a model does not fit is an error with the sum, and the cpu runs it all the same', async () => {
    const load = Engine.load(small, { ...options, memoryLimit: 2 << 20 });
    await expect(load).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      message: expect.stringMatching(/The model needs .* weights .* KV cache .* available are/),
    });
    await using engine = await Engine.load(small, { ...options, device: 'cpu' });
    expect((await greedy(engine, 20)).length).toBe(8);
  });

  it('gives out wherever in the load it runs out, and nothing stays behind', async () => {
    let fits = 0;
    for (let limit = 65; limit <= 76; limit++) {
      const load = Engine.load(small, { ...options, memoryLimit: limit << 20 });
      const code = await load.then(
        async (engine) => {
          fits++;
          await engine.dispose();
          return 'loaded';
        },
        (error) => error.code,
      );
      expect(['ERR_OUT_OF_MEMORY', 'loaded']).toContain(code);
      expect(native().memory().total).toBe(0);
    }
    expect(fits).toBeGreaterThan(0);
  });

  it('that a tensor does not fit is an error of that tensor alone', () => {
    using device = openDevice({ backend: 'simt', memoryLimit: 1 << 20, threads: 1 });
    using kept = Tensor.from(device, new Float32Array(1000).fill(3), [10, 100]);
    expect(() => Tensor.from(device, new Float32Array(1 << 18), [1 << 18])).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_MEMORY', message: expect.stringMatching(/simt:0.*memoryLimit/) }),
    );
    expect(kept.toFloat32Array()[999]).toBe(3);
    using again = Tensor.from(device, new Float32Array(1000), [1000]);
    expect(again.byteLength).toBe(4000);
  });
});

describe('a program on simt', () => {
  it('uploads what a step reads, brings back what it wrote and no more', async () => {
    const model = await loadModel(small, { device: 'simt', dtype: 'f32', maxModelLen: 64, maxRows: 32, maxSeqs: 4 });
    const reference = await loadModel(small, { device: 'cpu', dtype: 'f32', maxModelLen: 64, maxRows: 32, maxSeqs: 4 });
    try {
      const seen = [];
      for (const runner of [model, reference]) {
        const [batch, other] = runner.batches;
        // What lies behind the live part must stay as it is, in both batches.
        for (const b of [batch, other]) b.sampledIds.fill(-77);
        fillBatch(batch, [{ row: 2, blocks: blocksFor(20), ids: tokens(20), start: 0, survivors: 'last' }]);
        const before = { ids: batch.ids.slice(), tables: batch.blockTables.slice() };
        await runner.run(batch);
        expect(batch.ids).toEqual(before.ids);
        expect(batch.blockTables).toEqual(before.tables);
        expect([...batch.sampledIds.subarray(1)].every((id) => id === -77)).toBe(true);
        expect([...other.sampledIds].every((id) => id === -77)).toBe(true);
        seen.push({ id: batch.sampledIds[0], layerRows: [...batch.layerRows], rowLayers: [...batch.rowLayers] });
      }
      expect(seen[0]).toEqual(seen[1]);
    } finally {
      await model.dispose();
      await reference.dispose();
    }
  });

  it('refuses a batch that does not hold, and runs the next one', async () => {
    const model = await loadModel(small, { device: 'simt', dtype: 'f32', maxModelLen: 64, maxRows: 32, maxSeqs: 4 });
    const batch = model.batches[0];
    const piece = { row: 0, blocks: blocksFor(5), ids: tokens(5), start: 0, survivors: 'last' as const };
    fillBatch(batch, [piece]);
    batch.ids[3] = 1 << 20;
    await expect(model.run(batch)).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
    fillBatch(batch, [piece]);
    await model.run(batch);
    expect(batch.sampledIds[0]).toBeGreaterThanOrEqual(0);
    await model.dispose();
  });
});

describe('the names of devices', () => {
  it.each(['simt:4', 'simt:999'] as const)('%s does not exist', async (device) => {
    await expect(Engine.load(small, { ...options, device })).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });

  it('tensors of two devices do not meet in an op', () => {
    using one = openDevice({ backend: 'simt', threads: 1 });
    using two = openDevice({ backend: 'cpu', threads: 1 });
    using x = Tensor.from(one, new Float32Array(4), [1, 4]);
    using out = Tensor.from(two, new Float32Array(4), [1, 4]);
    expect(() => ops.sync.copy_rows({ in: x, out })).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  });

  it('an ISA level and a limit of memory belong to one kind each', () => {
    expect(() => openDevice({ backend: 'simt', level: 'scalar' })).toThrow(/ISA level/);
    expect(() => openDevice({ backend: 'cpu', memoryLimit: 1 })).toThrow(/memoryLimit/);
  });
});
