// Tensors: what goes in comes out, in every dtype and layout, and memory goes when it is said to go.

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { DType, Layout } from '../../lib/native/binding.ts';
import { binding, floats, refuses, rejects, testDevice } from './support.ts';

const device = testDevice();

const stored: [DType, Layout][] = [
  ['f32', 'row_major'],
  ['bf16', 'row_major'],
  ['f16', 'row_major'],
  ['f32', 'panels'],
  ['bf16', 'panels'],
];

// Around the panel of 64 outputs and the pair along k.
const sizes = fc.constantFrom(0, 1, 2, 3, 16, 63, 64, 65, 130);

function rounded(values: Float32Array, dtype: DType): Float32Array {
  return binding.convertBack(binding.convert(values, dtype), dtype);
}

test.each(stored)('floats of a %s %s matrix come back, rounded once', (dtype, layout) => {
  fc.assert(
    fc.property(sizes, sizes, fc.integer(), (n, k, seed) => {
      const tensor = binding.tensor(device, dtype, [n, k], layout);
      const values = Float32Array.from({ length: n * k }, (_, i) => Math.sin(i + seed) * 3);
      tensor.writeFloats(values);
      expect(tensor.readFloats()).toEqual(rounded(values, dtype));
      expect([...tensor.shape]).toEqual([n, k]);
      expect([tensor.dtype, tensor.layout]).toEqual([dtype, layout]);
      tensor.dispose();
    }),
  );
});

test('raw bytes come back, at an offset too', () => {
  const tensor = binding.tensor(device, 'i32', [4], 'row_major');
  expect(tensor.byteLength).toBe(16);
  tensor.write(new Uint8Array([1, 2, 3, 4]), 4);
  const all = new Uint8Array(16);
  tensor.read(all);
  expect([...all]).toEqual([0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
  const part = new Uint8Array(2);
  tensor.read(part, 6);
  expect([...part]).toEqual([3, 4]);
  expect([...tensor.readFloats()]).toEqual([0, 0x04030201 | 0, 0, 0].map(Math.fround));
  tensor.dispose();
});

test('conversions are exact and refuse halves of elements', () => {
  const values = Float32Array.of(0, -0, 1, 1.00390625, 448, 1e9, -1e-9, Number.NaN, Number.POSITIVE_INFINITY);
  expect([...rounded(values, 'fp8_e4m3')]).toEqual([0, -0, 1, 1, 448, 448, -0, Number.NaN, 448]);
  expect([...rounded(values, 'bf16')].slice(0, 4)).toEqual([0, -0, 1, 1]);
  expect(binding.convert(values, 'f16')).toHaveLength(18);
  refuses(() => binding.convertBack(new Uint8Array(3), 'bf16'));
  refuses(() => binding.convert(values, 'i32' as never));
  // A view that does not start at the beginning of its buffer, on an odd byte.
  const bytes = new Uint8Array([9, 0x80, 0x3f]).subarray(1);
  expect([...binding.convertBack(bytes, 'bf16')]).toEqual([1]);
});

test('random values depend on seed and place alone, not on the layout', async () => {
  const fill = async (dtype: DType, layout: Layout, seed: number) => {
    const tensor = binding.tensor(device, dtype, [67, 131], layout);
    await tensor.fillRandom(seed, 0.5);
    const values = tensor.readFloats();
    tensor.dispose();
    return values;
  };
  const exact = await fill('f32', 'row_major', 1);
  expect(await fill('f32', 'panels', 1)).toEqual(exact);
  expect(await fill('bf16', 'panels', 1)).toEqual(rounded(exact, 'bf16'));
  expect(await fill('f16', 'row_major', 1)).toEqual(rounded(exact, 'f16'));
  expect(await fill('f32', 'row_major', 2)).not.toEqual(exact);
  // 8,777 values of a uniform distribution on [-0.5, 0.5): mean 0 and variance 1/12, within 5 standard errors.
  const mean = exact.reduce((a, b) => a + b, 0) / exact.length;
  const variance = exact.reduce((a, b) => a + b * b, 0) / exact.length;
  expect(Math.abs(mean)).toBeLessThan(5 * Math.sqrt(1 / 12 / exact.length));
  expect(Math.abs(variance - 1 / 12)).toBeLessThan(5 * Math.sqrt(1 / 180 / exact.length));
  expect(exact.every((x) => x >= -0.5 && x < 0.5)).toBe(true);
  expect(new Set(exact).size).toBeGreaterThan(0.99 * exact.length);
});

test('random values are the same for one thread and two', async () => {
  const single = binding.openDevice({ backend: 'cpu', threads: 1, level: 'scalar' });
  const [a, b] = [single, device].map((d) => binding.tensor(d, 'bf16', [700, 9], 'panels'));
  await Promise.all([a!.fillRandom(5, 1), b!.fillRandom(5, 1)]);
  expect(a!.readFloats()).toEqual(b!.readFloats());
  b!.dispose();
  single.close();
});

test('memory is counted while it is held and returned when it is not', async () => {
  const before = device.allocatedBytes;
  const resident = binding.residentBytes();
  const bytes = 64 << 20;
  const tensor = binding.tensor(device, 'u8', [bytes], 'row_major');
  expect(device.allocatedBytes - before).toBe(bytes);
  await device.touch();
  expect(binding.residentBytes() - resident).toBeGreaterThan(0.9 * bytes);
  tensor.dispose();
  tensor.dispose();
  expect(device.allocatedBytes).toBe(before);
  expect(binding.residentBytes() - resident).toBeLessThan(0.25 * bytes);
});

test('memory of handles that nobody disposed of goes with them', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const before = device.allocatedBytes;
  for (let i = 0; i < 100; ++i) binding.tensor(device, 'f32', [1000], 'row_major');
  expect(device.allocatedBytes).toBe(before + 400_000);
  for (let i = 0; i < 10 && device.allocatedBytes > before; ++i) {
    collect();
    await new Promise((resolve) => setTimeout(resolve, 10)); // finalizers run between turns of the event loop
  }
  // The engine may keep the last one in a register or a stack slot.
  expect(device.allocatedBytes).toBeLessThanOrEqual(before + 4000);
});

test('a disposed tensor answers with ERR_DISPOSED everywhere', async () => {
  const tensor = floats(device, [1, 2, 3]);
  const other = floats(device, [1, 2, 3], [1, 3]);
  tensor.dispose();
  for (const use of [
    () => tensor.dtype,
    () => tensor.shape,
    () => tensor.layout,
    () => tensor.byteLength,
    () => tensor.write(new Uint8Array(1)),
    () => tensor.read(new Uint8Array(1)),
    () => tensor.writeFloats(new Float32Array(3)),
    () => tensor.readFloats(),
    () => device.runSync('rms_norm', { x: other, w: tensor, out: other }, { eps: 1e-5 }),
  ])
    refuses(use, 'ERR_DISPOSED');
  await rejects(tensor.fillRandom(1, 1), 'ERR_DISPOSED');
  await rejects(device.run('rms_norm', { x: other, w: tensor, out: other }, { eps: 1e-5 }), 'ERR_DISPOSED');
});

test('a tensor disposed of while an op uses it stays until the op is done', async () => {
  const before = device.allocatedBytes;
  const x = binding.tensor(device, 'f32', [2048, 1024], 'row_major');
  const w = floats(device, new Array(1024).fill(1));
  const out = binding.tensor(device, 'f32', [2048, 1024], 'row_major');
  const running = device.run('rms_norm', { x, w, out }, { eps: 1e-5 });
  for (const tensor of [x, w, out]) tensor.dispose();
  await running;
  await new Promise((resolve) => setTimeout(resolve, 50)); // the executor lets go of its operands after it has answered
  expect(device.allocatedBytes).toBe(before);
});

test('closing a device empties it and everything of it answers with ERR_DISPOSED', async () => {
  const own = binding.openDevice({ backend: 'cpu', threads: 2, level: 'scalar' });
  const tensor = binding.tensor(own, 'f32', [1 << 20], 'row_major');
  const filling = tensor.fillRandom(1, 1);
  const second = tensor.fillRandom(2, 1);
  own.close();
  own.close();
  const results = await Promise.allSettled([filling, second]);
  for (const result of results)
    if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'ERR_ABORTED' });
  expect(results[1]!.status).toBe('rejected');
  expect(own.allocatedBytes).toBe(0);
  refuses(() => tensor.readFloats(), 'ERR_DISPOSED');
  refuses(() => binding.tensor(own, 'f32', [1], 'row_major'), 'ERR_DISPOSED');
  refuses(() => own.runSync('rms_norm', {}, {}), 'ERR_DISPOSED');
  await rejects(own.run('rms_norm', {}, {}), 'ERR_DISPOSED');
});

test('touch makes memory resident beside the event loop, and a closed device refuses it', async () => {
  const own = testDevice();
  const MiB = 2 ** 20;
  const before = binding.residentBytes();
  const tensor = binding.tensor(own, 'f32', [64, MiB / 4], 'row_major');
  expect(binding.residentBytes() - before).toBeLessThan(16 * MiB);
  tensor.write(new Uint8Array([1, 2, 3]), 63 * MiB);
  const touched = own.touch();
  await touched;
  expect(binding.residentBytes() - before).toBeGreaterThan(60 * MiB);
  const kept = new Uint8Array(4);
  tensor.read(kept, 63 * MiB);
  expect([...kept]).toEqual([1, 2, 3, 0]);
  own.close();
  await rejects(own.touch(), 'ERR_DISPOSED');
});
