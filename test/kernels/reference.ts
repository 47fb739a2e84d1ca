// The ops in double precision: straight loops, no tricks. Beside each value, what bounds its rounding error.

import { roundoff, roundTo } from './support.ts';

type Floats = ArrayLike<number>;

/** A value with the sum of the magnitudes that were added up for it. */
export interface Sums {
  values: Float64Array;
  magnitudes: Float64Array;
}

/**
 * The bound on a sum of `terms` products in f32, whatever their order: each term takes part in at most `terms` additions
 * and one multiplication, each off by half a unit (the standard forward error bound, Higham 2002, section 3.1).
 */
export function sumBound(terms: number, magnitude: number): number {
  return (terms + 2) * roundoff('f32') * magnitude * 1.01;
}

/** y = a W^T + bias; a [rows, k], w [n, k]. */
export function linear(a: Floats, w: Floats, bias: Floats | null, rows: number, n: number, k: number): Sums {
  const values = new Float64Array(rows * n);
  const magnitudes = new Float64Array(rows * n);
  for (let r = 0; r < rows; r++) {
    for (let j = 0; j < n; j++) {
      let sum = bias ? bias[j]! : 0;
      let magnitude = Math.abs(sum);
      for (let i = 0; i < k; i++) {
        const product = a[r * k + i]! * w[j * k + i]!;
        sum += product;
        magnitude += Math.abs(product);
      }
      values[r * n + j] = sum;
      magnitudes[r * n + j] = magnitude;
    }
  }
  return { values, magnitudes };
}

export function rmsNorm(x: Floats, w: Floats, eps: number, rows: number, dim: number): Float64Array {
  const out = new Float64Array(rows * dim);
  for (let r = 0; r < rows; r++) {
    let sum = 0;
    for (let i = 0; i < dim; i++) sum += x[r * dim + i]! ** 2;
    const scale = 1 / Math.sqrt(sum / dim + eps);
    for (let i = 0; i < dim; i++) out[r * dim + i] = w[i]! * x[r * dim + i]! * scale;
  }
  return out;
}

/** cos then sin of the angles of one position, the angle rounded to f32 as the table's op does. */
export function ropeTable(invFreq: Floats, positions: number): Float32Array {
  const half = invFreq.length;
  const table = new Float32Array(positions * half * 2);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(p * invFreq[i]!);
      table[p * half * 2 + i] = Math.cos(angle);
      table[p * half * 2 + half + i] = Math.sin(angle);
    }
  }
  return table;
}

/** Rotates every head of x [rows, heads, hd] in place: dimension i pairs with i + hd / 2. Magnitudes are carried along. */
export function rotate(x: Sums, rope: Floats, positions: Floats, rows: number, heads: number, hd: number): void {
  const half = hd / 2;
  for (let r = 0; r < rows; r++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < half; i++) {
        const at = (r * heads + h) * hd + i;
        const [cos, sin] = [rope[positions[r]! * hd + i]!, rope[positions[r]! * hd + half + i]!];
        const [a, b] = [x.values[at]!, x.values[at + half]!];
        x.values[at] = a * cos - b * sin;
        x.values[at + half] = b * cos + a * sin;
        const [ma, mb] = [x.magnitudes[at]!, x.magnitudes[at + half]!];
        x.magnitudes[at] = ma * Math.abs(cos) + mb * Math.abs(sin);
        x.magnitudes[at + half] = mb * Math.abs(cos) + ma * Math.abs(sin);
      }
    }
  }
}

/**
 * Norms every head of x [heads, hd] in place: w x / sqrt(mean(x^2) + eps), with the weights of head h from `weights(h)`.
 * Where x is off by e, whose largest share of the mean square is rms(e), the root is off by at most rms(e) and never
 * below sqrt(eps): so x / r is off by at most (e + |x / r| rms(e)) / (the least r). Magnitudes are replaced by what
 * gives that bound from `sumBound(terms, magnitude)`, with the norm's own roundings (see rms_norm).
 */
export function normHeads(x: Sums, weights: (head: number) => Floats, eps: number, hd: number, terms: number): void {
  for (let h = 0; h * hd < x.values.length; h++) {
    const [values, magnitudes] = [x.values, x.magnitudes].map((v) => v.subarray(h * hd, (h + 1) * hd)) as [
      Float64Array,
      Float64Array,
    ];
    const meanSquare = (v: Float64Array) => v.reduce((sum, value) => sum + value * value, 0) / hd;
    const root = Math.sqrt(meanSquare(values) + eps);
    const offRoot = Math.sqrt(meanSquare(magnitudes.map((m) => sumBound(terms, m))));
    const leastRoot = Math.max(root - offRoot, Math.sqrt(eps));
    const own = ((hd + 2) / 2 + 4) * roundoff('f32') * 1.01;
    for (let i = 0; i < hd; i++) {
      const weight = weights(h)[i]!;
      const off = (sumBound(terms, magnitudes[i]!) + (Math.abs(values[i]!) / root) * offRoot) / leastRoot;
      values[i]! *= weight / root;
      const bound = Math.abs(weight) * off * 1.01 + own * (Math.abs(values[i]!) + Math.abs(weight) * off);
      magnitudes[i] = Math.abs(values[i]!) + bound / sumBound(terms, 1);
    }
  }
}

/** Columns [from, from + count) of a [rows, width] result. */
export function columns(x: Sums, width: number, from: number, count: number): Sums {
  const rows = width === 0 ? 0 : x.values.length / width;
  const take = (v: Float64Array) => {
    const out = new Float64Array(rows * count);
    for (let r = 0; r < rows; r++) out.set(v.subarray(r * width + from, r * width + from + count), r * count);
    return out;
  };
  return { values: take(x.values), magnitudes: take(x.magnitudes) };
}

/** The e4m3 value of a code (OCP FP8, "fn": no infinities, 0x7f is NaN). */
export function decodeFp8(code: number): number {
  const sign = code & 0x80 ? -1 : 1;
  const exponent = (code >> 3) & 15;
  const mantissa = code & 7;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
}

const fp8Values = Array.from({ length: 127 }, (_, code) => decodeFp8(code));

/** The code of the nearest e4m3 value, ties to the even code, saturating at 448: by looking at every one. */
export function encodeFp8(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x80 : 0;
  if (Number.isNaN(x)) return 0x7f;
  const magnitude = Math.min(Math.abs(x), 448);
  let best = 0;
  for (let code = 1; code < 127; code++) {
    const closer = Math.abs(fp8Values[code]! - magnitude) - Math.abs(fp8Values[best]! - magnitude);
    if (closer < 0 || (closer === 0 && code % 2 === 0)) best = code;
  }
  return sign | best;
}

/** The dynamic scale of a head or row: max|x| / 448 in f32, 1 where that is 0. */
export function fp8Scale(x: Floats): number {
  let max = 0;
  for (let i = 0; i < x.length; i++) max = Math.max(max, Math.abs(x[i]!));
  return Math.fround(max / 448) || 1;
}

/** What a cache gives back for one head of one token, from f32 values that are written to it. */
export function throughCache(x: Floats, dtype: 'f32' | 'bf16' | 'fp8_e4m3', staticScale: number | null): Float32Array {
  if (dtype !== 'fp8_e4m3') return Float32Array.from(x, (v) => roundTo(dtype, v));
  const scale = staticScale ?? fp8Scale(x);
  return Float32Array.from(x, (v) => decodeFp8(encodeFp8(Math.fround(v / scale))) * scale);
}
