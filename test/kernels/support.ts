// What the op tests share: devices of the levels under test, tensors that are freed together, generated shapes, and a
// comparison that says where it failed and by how much.

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { type Device, type DType, type Layout, openDevice, Tensor } from '../../lib/kernels/index.ts';
import { trainOpSpecs } from '../../lib/kernels/train-op-specs.ts';
import { optionsOf, places } from '../places.ts';

/**
 * The same tests at every place under test, each with a device of two threads of its own, and one of one thread. Ops of
 * training run on the cpu only.
 */
export function describeLevels(op: string, body: (device: Device, oneThread: Device) => void): void {
  describe.each(places)(`${op} on %s`, (place) => {
    const { device: backend, isa: level } = optionsOf(place);
    if (op in trainOpSpecs && backend !== 'cpu') return it.skip('is an op of the cpu', () => {});
    const devices = [openDevice({ backend, level, threads: 2 }), openDevice({ backend, level, threads: 1 })] as const;
    afterAll(() => {
      for (const device of devices) {
        expect(device.allocatedBytes, 'bytes that tests left on the device').toBe(0);
        device.dispose();
      }
    });
    body(...devices);
  });
}

/** Makes tensors that are freed together. */
export class Scope {
  readonly device: Device;
  readonly #owned: { dispose(): void }[] = [];

  constructor(device: Device) {
    this.device = device;
  }

  own<T extends { dispose(): void }>(thing: T): T {
    this.#owned.push(thing);
    return thing;
  }

  floats(values: ArrayLike<number>, shape: number[], dtype: DType = 'f32', layout: Layout = 'row_major'): Tensor {
    const floats = values instanceof Float32Array ? values : Float32Array.from(values);
    return this.own(Tensor.from(this.device, floats, shape, { dtype, layout }));
  }

  ints(values: ArrayLike<number>, shape: number[] = [values.length]): Tensor {
    return this.own(Tensor.from(this.device, Int32Array.from(values), shape));
  }

  /** An output, filled with NaN (-1 for integers), so that an element that is not written shows. */
  out(shape: number[], dtype: DType = 'f32'): Tensor {
    const count = shape.reduce((a, b) => a * b, 1);
    if (dtype === 'i32') return this.ints(new Int32Array(count).fill(-12345), shape);
    if (dtype === 'u8') return this.own(Tensor.from(this.device, new Uint8Array(count).fill(0xaa), shape));
    return this.floats(new Float32Array(count).fill(Number.NaN), shape, dtype);
  }

  dispose(): void {
    for (const thing of this.#owned.splice(0).reverse()) thing.dispose();
  }
}

export function withScope<T>(device: Device, body: (scope: Scope) => T): T {
  const scope = new Scope(device);
  try {
    return body(scope);
  } finally {
    scope.dispose();
  }
}

/** Rows of a call: none, one, and around the block of 16 tokens. */
export const rowCounts = fc.constantFrom(0, 1, 2, 3, 5, 15, 16, 17, 33);
/** Widths around lanes (16), panels (64) and odd ones. */
export const widths = fc.constantFrom(1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 129);
export const headDims = fc.constantFrom(2, 6, 8, 16, 18, 30, 32, 64, 80, 128);
export const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });
export const computeDtypes = fc.constantFrom<'f32' | 'bf16'>('f32', 'bf16');
export const layouts = fc.constantFrom<Layout>('row_major', 'panels');

/** Runs a property a fixed number of times; a failure prints the shrunk counterexample and its seed. */
export function check<T>(arbitrary: fc.Arbitrary<T>, body: (value: T) => void, numRuns = 60): void {
  fc.assert(fc.property(arbitrary, body), { numRuns });
}

/** Deterministic numbers for one example. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Uniform in [0, 1) (mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** Integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  /** f32 values in [-scale, scale), rounded to `dtype` so that storing them loses nothing. */
  floats(count: number, dtype: DType = 'f32', scale = 1): Float32Array {
    return Float32Array.from({ length: count }, () => roundTo(dtype, (this.next() * 2 - 1) * scale));
  }

  ints(count: number, below: number): Int32Array {
    return Int32Array.from({ length: count }, () => this.below(below));
  }

  /** 0 .. n-1 in random order. */
  permutation(n: number): number[] {
    const out = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  }
}

const bits = new Uint32Array(1);
const bitsAsFloat = new Float32Array(bits.buffer);

/** The nearest value of `dtype`, ties to even. */
export function roundTo(dtype: DType, x: number): number {
  if (dtype !== 'bf16') return Math.fround(x);
  bitsAsFloat[0] = x;
  if (Number.isNaN(x)) return x;
  bits[0] = ((bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000) >>> 0;
  return bitsAsFloat[0]!;
}

/** Unit roundoff: the largest relative error of one rounding to `dtype`. */
export function roundoff(dtype: DType): number {
  return dtype === 'bf16' ? 2 ** -8 : 2 ** -24;
}

/** Equality of bits of whole arrays. */
export function expectBits(actual: ArrayBufferView, expected: ArrayBufferView, what = 'output'): void {
  const bytes = (x: ArrayBufferView) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  const [a, e] = [bytes(actual), bytes(expected)];
  expect(a.length, `${what}: bytes`).toBe(e.length);
  if (a.equals(e)) return;
  expect.fail(`${what} differs from byte ${a.findIndex((byte, i) => byte !== e[i])} on`);
}

/** Bf16 instructions flush subnormals: every bound allows what a few of them add up to. */
const flushed = 2 ** -116;

/** Holds actual against expected, element by element, each with its own absolute bound; NaN equals NaN. */
export function expectClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  bound: (index: number) => number,
  what = 'output',
): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  let worst = { index: -1, excess: 0 };
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i]!;
    const e = expected[i]!;
    if (Object.is(a, e) || a === e) continue;
    const error = Math.abs(a - e);
    const excess = Number.isFinite(error) ? error / (bound(i) + flushed) : Number.POSITIVE_INFINITY;
    if (excess > Math.max(1, worst.excess)) worst = { index: i, excess };
  }
  if (worst.index < 0) return;
  const i = worst.index;
  expect.fail(
    `${what}[${i}] is ${actual[i]}, expected ${expected[i]}: off by ${Math.abs(actual[i]! - expected[i]!)}, ` +
      `${worst.excess.toPrecision(3)} times the bound ${bound(i)}`,
  );
}
