// Hostile use: every wrong value is refused with a code, and the process lives.

import { expect, test } from 'vitest';
import type { Layout, NativeDevice, SamplerState } from '../../lib/native/binding.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { binding, capacity, floats, refuses, rejects, sumProgram, testDevice } from './support.ts';

const noIds = new Int32Array(0);
const device = testDevice();
const tensor = floats(device, [1, 2, 3, 4], [2, 2]);
const pool = binding.kvPool(device, 2, [{ numKvHeads: 1, headDim: 4, dtype: 'f32', scales: 'none' }]);
const cache = pool.cache(0);
const samplers = binding.samplerTable(device, 2, 5);
const batch = binding.batch(device, capacity);
const program = sumProgram(device);

/** Values that are none of ours. */
const strangers: unknown[] = [
  undefined,
  null,
  0,
  -1,
  Number.NaN,
  'x',
  true,
  1n,
  Symbol('x'),
  {},
  [],
  () => {},
  new Proxy({}, {}),
  Object.create(tensor),
  new Float32Array(1),
];
const handles: Record<string, unknown> = { device, tensor, pool, cache, samplers, batch, program };

function othersThan(...mine: string[]): unknown[] {
  return [
    ...strangers,
    ...Object.entries(handles)
      .filter(([name]) => !mine.includes(name))
      .map(([, handle]) => handle),
  ];
}

test('functions of a device refuse whatever is no device', () => {
  const make = [
    (d: NativeDevice) => binding.tensor(d, 'f32', [1], 'row_major'),
    (d: NativeDevice) => binding.kvPool(d, 1, []),
    (d: NativeDevice) => binding.samplerTable(d, 1, 5),
    (d: NativeDevice) => binding.batch(d, capacity),
    (d: NativeDevice) => binding.program(d, { name: '', capacity, tensors: [], steps: [] }),
    (d: NativeDevice) => binding.loadWeights(d, []),
  ];
  for (const call of make) for (const value of othersThan('device')) refuses(() => call(value as never));
});

test('handles of another kind are refused as operands, batches and destinations', async () => {
  for (const value of othersThan('tensor', 'cache', 'samplers')) {
    if (value === undefined) continue; // an operand left out
    refuses(() => device.runSync('rms_norm', { x: value as never, w: tensor, out: tensor }, { eps: 1 }));
  }
  for (const value of othersThan('batch')) await rejects(program.run(value as never), 'ERR_INVALID_ARGUMENT');
  for (const dst of othersThan('tensor') as never[])
    refuses(() => binding.loadWeights(device, [{ path: '', offset: 0, dtype: 'f32', rows: 0, k: 2, dst, dstRow: 0 }]));
  for (const kind of ['constant', 'cache', 'caches', 'samplers'] as const)
    for (const value of strangers) {
      const entry = { kind, tensor: value, cache: value, caches: [value], samplers: value } as never;
      refuses(() => binding.program(device, { name: '', capacity, tensors: [entry], steps: [] }));
    }
});

test('methods refuse a receiver of another class', () => {
  for (const [name, handle] of Object.entries(handles)) {
    const prototype = Object.getPrototypeOf(handle);
    for (const [property, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
      const call = (descriptor as PropertyDescriptor).get ?? (descriptor as PropertyDescriptor).value;
      if (property === 'constructor') continue;
      for (const receiver of othersThan(name)) expect(() => call.call(receiver, 0)).toThrow();
    }
  }
});

test('classes cannot be constructed by their constructors', () => {
  for (const handle of Object.values(handles)) {
    const Class = (handle as object).constructor as new (...args: unknown[]) => object;
    refuses(() => new Class());
    refuses(() => new Class(handle));
    refuses(() => Reflect.construct(Class, [device], Array));
    class Derived extends Class {}
    refuses(() => new Derived());
    expect(() => (Class as unknown as () => unknown)()).toThrow();
  }
});

test('sizes: negative, fractional, gigantic, not numbers', () => {
  for (const size of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 31, '4', null, {}, 4n] as never[]) {
    refuses(() => binding.tensor(device, 'f32', [size], 'row_major'));
    refuses(() => binding.kvPool(device, size, [{ numKvHeads: 1, headDim: 4, dtype: 'f32', scales: 'none' }]));
    refuses(() => binding.kvPool(device, 1, [{ numKvHeads: size, headDim: 4, dtype: 'f32', scales: 'none' }]));
    refuses(() => binding.kvPool(device, 1, [{ numKvHeads: 1, headDim: size, dtype: 'f32', scales: 'none' }]));
    refuses(() => binding.samplerTable(device, size, 5));
    refuses(() => binding.samplerTable(device, 1, size));
    refuses(() => pool.cache(size));
    for (const key of Object.keys(capacity))
      refuses(() => binding.batch(device, { ...capacity, [key]: size }), 'ERR_INVALID_ARGUMENT');
    refuses(() => binding.openDevice({ backend: 'cpu', threads: size, level: 'scalar' }));
  }
  const max = 2 ** 31 - 1;
  for (const layout of ['row_major', 'panels'] as Layout[]) {
    refuses(() => binding.tensor(device, 'f32', [max, max], layout));
    refuses(() => binding.tensor(device, 'bf16', [1 << 20, 1 << 20], layout), 'ERR_OUT_OF_MEMORY');
  }
  refuses(() => binding.tensor(device, 'f32', [max, max, max, max], 'row_major'));
  refuses(() => binding.tensor(device, 'f32', [1, 1, 1, 1, 1], 'row_major'));
  refuses(() => binding.tensor(device, 'f32', new Array(2 ** 32 - 1) as number[], 'row_major'));
  refuses(() => binding.tensor(device, 'f32', [4], 'panels'));
  refuses(() => binding.tensor(device, 'u8', [4, 4], 'panels'));
  const huge = { numKvHeads: max, headDim: max, dtype: 'f32', scales: 'none' } as const;
  refuses(() => binding.kvPool(device, max, [huge, huge]));
  refuses(() => binding.samplerTable(device, max, 5));
  refuses(() => binding.samplerTable(device, 1, max));
});

test('names: dtypes, layouts, backends, levels, ops, attributes', async () => {
  for (const name of [...strangers, 'F32', 'f64', '', 'x'.repeat(1 << 20)] as never[]) {
    refuses(() => binding.tensor(device, name, [1], 'row_major'));
    refuses(() => binding.tensor(device, 'f32', [1], name));
    refuses(() => binding.openDevice({ backend: 'cpu', threads: 1, level: name }));
    const code = typeof name === 'string' ? 'ERR_UNSUPPORTED' : 'ERR_INVALID_ARGUMENT';
    refuses(() => device.runSync(name, {}, {}), code);
    await rejects(device.run(name, {}, {}), code);
  }
  for (const backend of ['nosuch', '', './relative.so', '/nowhere/backend.so'])
    expect(() => binding.openDevice({ backend, threads: 1, level: '0' })).toThrowError(
      expect.objectContaining({ code: expect.stringMatching(/ERR_UNSUPPORTED|ERR_INVALID_ARGUMENT/) }),
    );
  for (const value of [null, 'x', {}, Number.NaN, 1n] as never[])
    refuses(() => device.runSync('rms_norm', { x: tensor, w: tensor, out: tensor }, { eps: value }));
  for (const value of [undefined, null, 1, 'x', () => {}] as never[]) {
    refuses(() => device.runSync('rms_norm', value, {}));
    refuses(() => device.runSync('rms_norm', {}, value));
    refuses(() => binding.openDevice(value));
    refuses(() => binding.program(device, value));
    refuses(() => binding.batch(device, value));
    refuses(() => samplers.set(0, value, noIds, noIds));
    refuses(() => binding.loadWeights(device, [value]));
  }
});

test('ranges of bytes and values outside a tensor', () => {
  const bytes = new Uint8Array(17);
  refuses(() => tensor.write(bytes));
  refuses(() => tensor.read(bytes));
  for (const offset of [-1, 1, 17, 2 ** 53 - 1, 2 ** 64, 0.5, Number.NaN, 'x'] as never[]) {
    refuses(() => tensor.write(bytes.subarray(0, 16), offset));
    refuses(() => tensor.read(bytes.subarray(0, 16), offset));
  }
  refuses(() => tensor.writeFloats(new Float32Array(5)));
  refuses(() => tensor.writeFloats(new Float64Array(4) as never));
  refuses(() => tensor.write(new Float32Array(1) as never));
  const shared = new Float32Array(new SharedArrayBuffer(16));
  refuses(() => tensor.writeFloats(shared));
  const integers = binding.tensor(device, 'i32', [1], 'row_major');
  refuses(() => integers.writeFloats(Float32Array.of(2 ** 31)));
  refuses(() => integers.writeFloats(Float32Array.of(Number.NaN)));
  const detached = new Float32Array(4);
  structuredClone(detached, { transfer: [detached.buffer] });
  refuses(() => tensor.writeFloats(detached));
  integers.dispose();
});

test('fillRandom rejects what it cannot fill', async () => {
  await rejects(tensor.fillRandom(-1, 1), 'ERR_INVALID_ARGUMENT');
  await rejects(tensor.fillRandom(1, -1), 'ERR_INVALID_ARGUMENT');
  await rejects(tensor.fillRandom(1, Number.POSITIVE_INFINITY), 'ERR_INVALID_ARGUMENT');
  await rejects(tensor.fillRandom('1' as never, 1), 'ERR_INVALID_ARGUMENT');
  const integers = binding.tensor(device, 'i32', [1], 'row_major');
  await rejects(integers.fillRandom(1, 1), 'ERR_INVALID_ARGUMENT');
  integers.dispose();
});

test('samplers: slots and values', () => {
  const set = (slot: number, change: Partial<SamplerState>, promptIds = noIds, outputIds = noIds) =>
    samplers.set(slot, { ...greedy, temperature: 1, seed: 1n, ...change }, promptIds, outputIds);
  set(1, { seed: 2n ** 64n - 1n });
  refuses(() => set(2, {}));
  refuses(() => set(-1, {}));
  refuses(() => set(0, { temperature: Number.NaN }));
  refuses(() => set(0, { seed: 2n ** 64n }));
  refuses(() => set(0, { seed: -1n }));
  refuses(() => set(0, { seed: 1 as never }));
  refuses(() => set(0, { topK: -1 }));
  for (const penalty of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e39]) {
    refuses(() => set(0, { repetitionPenalty: penalty }));
  }
  refuses(() => set(0, { presencePenalty: Number.NaN }));
  refuses(() => set(0, { frequencyPenalty: Number.NEGATIVE_INFINITY }));
  refuses(() => set(0, { minTokens: -1 }));
  refuses(() => set(0, { minTokens: 0.5 }));
});

test('samplers: lists of ids that would be followed out of the vocabulary, and lists that are none', () => {
  const set = (change: Partial<SamplerState>, promptIds = noIds, outputIds = noIds) =>
    samplers.set(0, { ...greedy, repetitionPenalty: 2, ...change }, promptIds, outputIds);
  const one = Float32Array.of(1);
  for (const id of [-1, 5, 2 ** 31 - 1, -(2 ** 31)]) {
    const ids = Int32Array.of(id);
    refuses(() => set({ biasIds: ids, biases: one }));
    refuses(() => set({ endIds: ids }));
    refuses(() => set({}, ids));
    refuses(() => set({}, noIds, ids));
  }
  refuses(() => set({ biasIds: Int32Array.of(1, 2), biases: one }));
  refuses(() => set({ biasIds: noIds, biases: one }));
  refuses(() => set({ biasIds: Int32Array.of(1), biases: Float32Array.of(Number.NaN) }));
  refuses(() => set({ biasIds: Int32Array.of(1), biases: Float32Array.of(Number.POSITIVE_INFINITY) }));
  for (const stranger of [...strangers, new Int32Array(new SharedArrayBuffer(4))] as never[]) {
    refuses(() => set({ biasIds: stranger }));
    refuses(() => set({ endIds: stranger }));
    refuses(() => samplers.set(0, greedy, stranger, noIds));
    refuses(() => samplers.set(0, greedy, noIds, stranger));
  }
  set({ biasIds: Int32Array.of(0, 4), biases: Float32Array.of(-1, Number.NEGATIVE_INFINITY) }, Int32Array.of(4, 4, 0));
});

test('getters that throw or dispose in the middle of reading', () => {
  const thrown = new Error('from a getter');
  const options = {
    get backend(): string {
      throw thrown;
    },
    threads: 1,
    level: 'scalar',
  };
  expect(() => binding.openDevice(options)).toThrow(thrown);
  const victim = floats(device, [1, 2, 3, 4], [2, 2]);
  const operands = {
    x: victim,
    get w() {
      victim.dispose();
      return victim;
    },
    out: tensor,
  };
  refuses(() => device.runSync('rms_norm', operands, { eps: 1e-5 }), 'ERR_DISPOSED');
  const target = binding.tensor(device, 'f32', [1, 2], 'row_major');
  const segment = {
    path: '/nowhere',
    offset: 0,
    dtype: 'f32' as const,
    rows: 1,
    k: 2,
    get dst() {
      return target;
    },
    get dstRow() {
      target.dispose();
      return 0;
    },
  };
  refuses(() => binding.loadWeights(device, [segment]), 'ERR_DISPOSED');
});

test('disposed pools, tables, batches and programs answer with ERR_DISPOSED', async () => {
  const gonePool = binding.kvPool(device, 1, [{ numKvHeads: 1, headDim: 4, dtype: 'f32', scales: 'none' }]);
  const goneCache = gonePool.cache(0);
  const goneSamplers = binding.samplerTable(device, 1, 5);
  const goneBatch = binding.batch(device, capacity);
  const goneProgram = sumProgram(device);
  for (const handle of [gonePool, goneSamplers, goneBatch, goneProgram]) {
    handle.dispose();
    handle.dispose();
  }
  for (const use of [
    () => gonePool.numBlocks,
    () => gonePool.numCaches,
    () => gonePool.blockBytes,
    () => gonePool.byteLength,
    () => gonePool.cache(0),
    () => goneSamplers.capacity,
    () => goneSamplers.set(0, greedy, noIds, noIds),
    () => goneProgram.workspaceBytes,
    () => goneProgram.readBuffer(2, 1),
    () => device.runSync('copy_blocks', { caches: [goneCache] }, {}),
    () => device.runSync('kv_dequantize', { cache: goneCache }, {}),
    () => device.runSync('sample', { samplers: goneSamplers }, {}),
  ])
    refuses(use, 'ERR_DISPOSED');
  await rejects(goneProgram.run(batch), 'ERR_DISPOSED');
  await rejects(program.run(goneBatch), 'ERR_DISPOSED');
  goneProgram.cancel();
  // The arrays of a disposed batch are empty: nobody can follow them to memory that is gone.
  expect(goneBatch.ids).toHaveLength(0);
  expect(goneBatch.ids[0]).toBeUndefined();
  expect(() => goneBatch.dispose()).not.toThrow();
});

test('a batch disposed of while its step runs: the step ends, then the memory goes', async () => {
  const own = binding.openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
  const program = sumProgram(own, 50);
  const batch = binding.batch(own, capacity);
  batch.counts.set([2, 0, 0, 0, 0]);
  const run = program.run(batch);
  batch.dispose();
  expect(batch.counts).toHaveLength(0);
  await run;
  expect(own.memory().batches).toBe(0);
  own.close();
});

test('the arrays of a batch, transferred: whoever has them can read them, whatever becomes of the batch', async () => {
  const own = binding.openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
  const batch = binding.batch(own, capacity);
  batch.ids.fill(7);
  const moved = structuredClone(batch.ids, { transfer: [batch.ids.buffer as ArrayBuffer] });
  batch.dispose();
  own.close();
  // Node copies buffers over native memory; a runtime that moves them leaves the batch without a say in it.
  expect(moved[0]).toBe(7);
});
