// f32 and f64 arithmetic with the roundings of PTX. JavaScript computes in f64; products of two f32 are exact there, and
// sums are carried with their error, so every f32 result is rounded once.

import { PtxError } from './syntax.ts';

/** To nearest even, towards zero, down, up. */
export type Rounding = 'rn' | 'rz' | 'rm' | 'rp';

const f64 = new Float64Array(1);
const words = new Uint32Array(f64.buffer);
const bits64 = new BigUint64Array(f64.buffer);
const f32 = new Float32Array(1);
const bits32 = new Int32Array(f32.buffer);

/** The f32 above x (step 1) or below it (step -1). */
function nextF32(x: number, step: 1 | -1): number {
  if (x === 0) return step * 2 ** -149;
  f32[0] = x;
  bits32[0]! += x > 0 === step > 0 ? 1 : -1;
  return f32[0];
}

/** Rounds sum + error to f32; |error| is at most half an ulp of sum, an f64. */
function roundToF32(sum: number, error: number, rounding: Rounding): number {
  if (rounding === 'rn') {
    if (error === 0 || !Number.isFinite(sum)) return Math.fround(sum);
    // Round to odd in f64 first: then rounding to f32 sees on which side of a tie the exact sum lies.
    f64[0] = sum;
    if ((words[0]! & 1) === 0) bits64[0]! += error > 0 === sum > 0 ? 1n : -1n;
    return Math.fround(f64[0]!);
  }
  const nearest = Math.fround(sum);
  if (!Number.isFinite(sum)) return nearest;
  const rest = Number.isFinite(nearest) ? sum - nearest + error : -nearest;
  const towards = rounding === 'rp' ? 1 : rounding === 'rm' ? -1 : sum > 0 ? -1 : 1;
  return rest !== 0 && rest > 0 === towards > 0 ? nextF32(nearest, towards) : nearest;
}

/** The error of the f64 sum a + b (Knuth). */
function sumError(a: number, b: number, sum: number): number {
  const bb = sum - a;
  return a - (sum - bb) + (b - bb);
}

export function addF32(a: number, b: number, rounding: Rounding): number {
  const sum = a + b;
  return rounding === 'rn' ? Math.fround(sum) : roundToF32(sum, sumError(a, b, sum), rounding);
}

export function mulF32(a: number, b: number, rounding: Rounding): number {
  return rounding === 'rn' ? Math.fround(a * b) : roundToF32(a * b, 0, rounding);
}

export function fmaF32(a: number, b: number, c: number, rounding: Rounding): number {
  const product = a * b;
  const sum = product + c;
  return roundToF32(sum, sumError(product, c, sum), rounding);
}

/** m * 2^e of a finite f64, m an integer. */
function parts(x: number): { m: bigint; e: number } {
  f64[0] = x;
  const all = bits64[0]!;
  const exponent = Number((all >> 52n) & 0x7ffn);
  const fraction = all & 0xfffffffffffffn;
  const m = exponent === 0 ? fraction : fraction | (1n << 52n);
  return { m: x < 0 ? -m : m, e: Math.max(exponent, 1) - 1075 };
}

/** The exact a b + c, rounded once to nearest even. */
export function fmaF64(a: number, b: number, c: number): number {
  if (!Number.isFinite(a) || !Number.isFinite(b) || !Number.isFinite(c) || a === 0 || b === 0) return a * b + c;
  const x = parts(a);
  const y = parts(b);
  const z = parts(c);
  const e = Math.min(x.e + y.e, z.e);
  const sum = ((x.m * y.m) << BigInt(x.e + y.e - e)) + (z.m << BigInt(z.e - e));
  return sum === 0n ? a * b + c : scaled(sum, e);
}

/** m * 2^e to the nearest f64. */
function scaled(m: bigint, e: number): number {
  const magnitude = m < 0n ? -m : m;
  // Number() of a BigInt rounds to nearest even; below the normal range the last bits have to go first.
  const length = magnitude.toString(2).length;
  const drop = Math.max(length - 53, -1074 - e, 0);
  let kept = magnitude >> BigInt(drop);
  const rest = magnitude - (kept << BigInt(drop));
  const half = drop === 0 ? 0n : 1n << BigInt(drop - 1);
  if (drop > 0 && (rest > half || (rest === half && (kept & 1n) === 1n))) kept += 1n;
  const power = e + drop;
  // In two steps, as 2^power alone may be out of range where the product is not.
  const value = Number(kept) * 2 ** Math.trunc(power / 2) * 2 ** (power - Math.trunc(power / 2));
  return m < 0n ? -value : value;
}

/** A 64-bit integer to the nearest f32: rounded to odd in f64 first. */
export function bigToF32(x: bigint): number {
  const near = Number(x);
  const error = Number(x - BigInt(near));
  return roundToF32(near, error, 'rn');
}

/** +0 is above -0; a NaN loses against a number. */
export function minFloat(x: number, y: number): number {
  return Number.isNaN(x) ? y : Number.isNaN(y) ? x : Math.min(x, y);
}

export function maxFloat(x: number, y: number): number {
  return Number.isNaN(x) ? y : Number.isNaN(y) ? x : Math.max(x, y);
}

/** Denormal f32 to zero of the same sign. */
export function flush(x: number): number {
  return Math.abs(x) < 2 ** -126 ? 0 * x : x;
}

export function saturate(x: number): number {
  return Number.isNaN(x) ? 0 : Math.min(Math.max(x, 0), 1);
}

/** What the hardware approximates; here rounded from f64, so results may differ in the last bits. */
export const approximate: Record<string, (x: number) => number> = {
  ex2: (x) => 2 ** x,
  lg2: Math.log2,
  rcp: (x) => 1 / x,
  rsqrt: (x) => 1 / Math.sqrt(x),
  sqrt: Math.sqrt,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
};

export function roundingOf(words: readonly string[], line: number): Rounding {
  const named = words.filter((w): w is Rounding => w === 'rn' || w === 'rz' || w === 'rm' || w === 'rp');
  if (named.length > 1) throw new PtxError(`two roundings in ${words.join('.')}`, line);
  return named[0] ?? 'rn';
}
