// Wrong calls from JavaScript: each is refused by name before anything native runs, or natively with a code.

import { afterAll, describe, expect, it } from 'vitest';
import { openDevice, ops, PagedKVCache, SamplerTable, Tensor } from '../../lib/kernels/index.ts';
import { opSpecs } from '../../lib/kernels/op-specs.ts';

const device = openDevice({ threads: 1 });
afterAll(() => device.dispose());

// biome-ignore lint/suspicious/noExplicitAny: these calls are wrong on purpose.
type Loose = any;
const loose = ops as Loose;

const zeros = (shape: number[], dtype: 'f32' | 'i32' | 'u8' = 'f32') => Tensor.zeros(device, shape, { dtype });
const refusal = (code: string, ...words: string[]) =>
  expect.objectContaining({ code, message: expect.stringMatching(new RegExp(words.join('.*'))) });

describe('operands', () => {
  const norm = () => ({ x: zeros([2, 3]), w: zeros([3]), out: zeros([2, 3]) });

  it.each(Object.keys(opSpecs))('%s names the operand that is missing', (op) => {
    const [first] = Object.entries(opSpecs[op as 'embed'].operands).filter(([, kind]) => !kind.endsWith('?'));
    expect(() => loose.sync[op]({}, {})).toThrow(refusal('ERR_INVALID_ARGUMENT', first![0], op));
  });

  it('lists the names that an op takes when given another', () => {
    expect(() => loose.sync.rms_norm({ ...norm(), wt: zeros([3]) }, { eps: 1e-5 })).toThrow(
      refusal('ERR_INVALID_ARGUMENT', 'x, w, out', 'rms_norm', 'wt'),
    );
    expect(() => loose.sync.rms_norm(norm(), { eps: 1e-5, epsilon: 1 })).toThrow(
      refusal('ERR_INVALID_ARGUMENT', 'eps', 'rms_norm', 'epsilon'),
    );
  });

  it.each([
    ['a Float32Array', new Float32Array(3)],
    ['null', null],
    ['a number', 7],
    ['a sampler table', new SamplerTable(device, 1, 5)],
  ])('refuses %s for a tensor', (_, value) => {
    expect(() => loose.sync.rms_norm({ ...norm(), w: value }, { eps: 1 })).toThrow(
      refusal('ERR_INVALID_ARGUMENT', 'a Tensor', 'w'),
    );
  });

  it('refuses caches of two pools and an empty list of caches', () => {
    const [a, b] = [1, 2].map(() => new PagedKVCache(device, { numBlocks: 1, numKvHeads: 1, headDim: 2 }));
    const pairs = { from: zeros([0], 'i32'), to: zeros([0], 'i32') };
    const call = (caches: unknown) => () => loose.sync.copy_blocks({ ...pairs, caches });
    expect(call([a!.cache(0), b!.cache(0)])).toThrow(refusal('ERR_INVALID_ARGUMENT', 'one pool'));
    expect(call([])).toThrow(refusal('ERR_INVALID_ARGUMENT', 'at least one cache'));
  });

  it('refuses attributes that are missing or of a wrong type', () => {
    for (const attrs of [undefined, {}, { eps: '1e-5' }, { eps: Number.NaN }]) {
      expect(() => loose.sync.rms_norm(norm(), attrs)).toThrow(refusal('ERR_INVALID_ARGUMENT', 'number', 'eps'));
    }
    const linear = { a: zeros([1, 2]), w: Tensor.zeros(device, [3, 2], { layout: 'panels' }), y: zeros([1, 3]) };
    expect(() => loose.sync.linear(linear, { accumulate: 1 })).toThrow(refusal('ERR_INVALID_ARGUMENT', 'boolean'));
  });

  it('refuses tensors of two devices', () => {
    const other = openDevice({ threads: 1 });
    const w = Tensor.zeros(other, [3]);
    expect(() => ops.sync.rms_norm({ ...norm(), w }, { eps: 1 })).toThrow(
      refusal('ERR_INVALID_ARGUMENT', 'w', 'another device'),
    );
    other.dispose();
  });

  it('refuses disposed tensors, and everything of a disposed device', () => {
    const operands = norm();
    operands.w.dispose();
    operands.w.dispose();
    expect(() => ops.sync.rms_norm(operands, { eps: 1 })).toThrow(refusal('ERR_DISPOSED', 'w'));
    expect(() => operands.w.toFloat32Array()).toThrow(refusal('ERR_DISPOSED'));
    const other = openDevice({ threads: 1 });
    const [x, w, out] = [Tensor.zeros(other, [1, 1]), Tensor.zeros(other, [1]), Tensor.zeros(other, [1, 1])];
    other.dispose();
    other.dispose();
    expect(() => ops.sync.rms_norm({ x, w, out }, { eps: 1 })).toThrow(refusal('ERR_DISPOSED'));
    expect(() => Tensor.zeros(other, [1])).toThrow();
  });

  it('natively refuses shapes and dtypes that do not fit, with the op and the operand in the message', () => {
    const wrong: [string, () => void][] = [
      ['w of another width', () => ops.sync.rms_norm({ ...norm(), w: zeros([4]) }, { eps: 1 })],
      ['an output with fewer rows', () => ops.sync.rms_norm({ ...norm(), out: zeros([1, 3]) }, { eps: 1 })],
      ['an output of integers', () => ops.sync.rms_norm({ ...norm(), out: zeros([2, 3], 'i32') }, { eps: 1 })],
      ['a tensor of another rank', () => ops.sync.rms_norm({ ...norm(), x: zeros([6]) }, { eps: 1 })],
    ];
    for (const [what, call] of wrong) expect(call, what).toThrow(refusal('ERR_INVALID_ARGUMENT', 'rms_norm'));
  });

  it('natively refuses an output that overlaps an input', () => {
    const x = zeros([2, 3]);
    expect(() => ops.sync.rms_norm({ x, w: zeros([3]), out: x }, { eps: 1 })).toThrow(refusal('ERR_INVALID_ARGUMENT'));
  });
});

describe('asynchronous calls', () => {
  it('give the same bits as the synchronous ones', async () => {
    const x = Tensor.from(
      device,
      Float32Array.from({ length: 300 }, (_, i) => Math.sin(i)),
      [3, 100],
    );
    const w = Tensor.from(
      device,
      Float32Array.from({ length: 100 }, (_, i) => Math.cos(i)),
      [100],
    );
    const [a, b] = [zeros([3, 100]), zeros([3, 100])];
    await ops.rms_norm({ x, w, out: a }, { eps: 1e-5 });
    ops.sync.rms_norm({ x, w, out: b }, { eps: 1e-5 });
    expect(a.toBytes()).toEqual(b.toBytes());
  });

  it('reject, and never throw, whether TypeScript or native code objects', async () => {
    await expect(loose.rms_norm({}, { eps: 1 })).rejects.toEqual(refusal('ERR_INVALID_ARGUMENT'));
    await expect(loose.rms_norm(null)).rejects.toEqual(refusal('ERR_INVALID_ARGUMENT'));
    const operands = { x: zeros([2, 3]), w: zeros([4]), out: zeros([2, 3]) };
    await expect(ops.rms_norm(operands, { eps: 1 })).rejects.toEqual(refusal('ERR_INVALID_ARGUMENT', 'w'));
  });

  it('keep their operands alive when these are disposed of while the op runs', async () => {
    const n = 512;
    const w = Tensor.zeros(device, [n, n], { layout: 'panels' });
    const [a, y] = [zeros([n, n]), zeros([n, n])];
    const running = ops.linear({ a, w, y });
    for (const tensor of [a, w, y]) tensor.dispose();
    await running;
  });
});

describe('tensors', () => {
  it('hold what was written, in every dtype', () => {
    const values = Float32Array.of(1, -0.5, 0, 448, 2 ** -6, -3);
    for (const dtype of ['f32', 'bf16', 'f16', 'fp8_e4m3'] as const) {
      const tensor = Tensor.from(device, values, [2, 3], { dtype });
      expect(tensor.toFloat32Array(), dtype).toEqual(values);
      expect([...tensor.shape]).toEqual([2, 3]);
    }
    const ints = Int32Array.of(1, -2, 2 ** 31 - 1);
    expect(Tensor.from(device, ints).toInt32Array()).toEqual(ints);
    const bytes = Uint8Array.of(0, 0x38, 0xff);
    expect(Tensor.from(device, bytes).toBytes()).toEqual(bytes);
    expect(Tensor.from(device, bytes.subarray(0, 2), [2], { dtype: 'fp8_e4m3' }).toFloat32Array()).toEqual(
      Float32Array.of(0, 1),
    );
  });

  it.each([
    ['a negative size', () => Tensor.zeros(device, [-1])],
    ['a fraction', () => Tensor.zeros(device, [1.5])],
    ['a shape that is no array', () => Tensor.zeros(device, 3 as Loose)],
    ['a size that nothing can hold', () => Tensor.zeros(device, [2 ** 40, 2 ** 40])],
    ['panels of three dimensions', () => Tensor.zeros(device, [1, 2, 3], { layout: 'panels' })],
    ['an unknown dtype', () => Tensor.zeros(device, [1], { dtype: 'int4' as Loose })],
    ['too few values', () => Tensor.from(device, new Float32Array(5), [2, 3])],
    ['integers for floats', () => Tensor.from(device, new Int32Array(6), [2, 3], { dtype: 'f32' })],
    ['a plain array', () => Tensor.from(device, [1, 2] as Loose)],
  ])('refuse %s', (_, call) => {
    expect(call).toThrow(
      expect.objectContaining({ code: expect.stringMatching(/ERR_(INVALID_ARGUMENT|OUT_OF_MEMORY)/) }),
    );
  });

  it('give their memory back', () => {
    const before = device.allocatedBytes;
    const tensor = Tensor.zeros(device, [1000, 1000]);
    expect(device.allocatedBytes - before).toBeGreaterThanOrEqual(tensor.byteLength);
    tensor[Symbol.dispose]();
    expect(device.allocatedBytes).toBe(before);
  });
});

describe('openDevice', () => {
  it.each([
    ['backend', { backend: 'tpu' }],
    ['level', { level: 'avx1024' }],
    ['threads', { threads: 0 }],
    ['threads', { threads: 1.5 }],
  ])('refuses a wrong %s', (what, options) => {
    expect(() => openDevice(options as Loose)).toThrow(refusal('ERR_INVALID_ARGUMENT', what));
  });
});
