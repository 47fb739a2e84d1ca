// How far two results are apart, and whether that is near enough for what computed them.

import type { ComputeDType } from '../model/forward.ts';

/** The verdict on one comparison. */
export interface Comparison {
  /** What was compared, e.g. `seq1 last row, chunks of 7`. */
  what: string;
  ok: boolean;
  /** The figure, and on a miss what it should have been. */
  detail: string;
  /** Largest absolute difference, where the comparison has one. */
  maxAbs: number;
}

/**
 * Bounds on logits whose standard deviation is about 2.5. f32 leaves room for another order of summation (the reference
 * differs from f64 by 1.2e-5). bf16 rounds the inputs of products and the residual's consumers; the reference in bf16 differs from
 * itself in f32 by an RMS of 0.05.
 */
export const f32MaxAbs = 2e-4;
export const bf16Bounds = { rms: 0.12, maxAbs: 1.0, rowCosine: 0.995 };

/** Compares rows of `width` numbers. */
export function compareRows(
  what: string,
  dtype: ComputeDType,
  actual: Float32Array,
  expected: Float32Array,
  width: number,
): Comparison {
  if (actual.length !== expected.length) {
    const detail = `${actual.length} numbers, expected ${expected.length}`;
    return { what, ok: false, detail, maxAbs: Number.POSITIVE_INFINITY };
  }
  let [maxAbs, worst, squares] = [0, 0, 0];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    squares += difference * difference;
    // NaN must not compare as near.
    if (!(difference <= maxAbs)) [maxAbs, worst] = [difference, i];
    if (Number.isNaN(difference)) break;
  }
  const at = `at row ${Math.floor(worst / width)}, column ${worst % width}`;
  if (dtype === 'f32') {
    const detail = `max ${figure(maxAbs)}`;
    return {
      what,
      ok: maxAbs <= f32MaxAbs,
      detail: maxAbs <= f32MaxAbs ? detail : `${detail} ${at}, at most ${f32MaxAbs}`,
      maxAbs,
    };
  }
  const rms = Math.sqrt(squares / Math.max(1, expected.length));
  const cosine = leastCosine(actual, expected, width);
  const ok = rms <= bf16Bounds.rms && maxAbs <= bf16Bounds.maxAbs && cosine > bf16Bounds.rowCosine;
  const { rms: r, maxAbs: m, rowCosine: c } = bf16Bounds;
  const detail = `max ${figure(maxAbs)}, RMS ${figure(rms)}, row cosine ${cosine.toFixed(5)}`;
  return { what, ok, detail: ok ? detail : `${detail} ${at}; at most ${m} and ${r}, above ${c}`, maxAbs };
}

/** Compares rows of `width` numbers, as shares of each row's largest expected one. */
export function compareRelative(
  what: string,
  actual: Float32Array,
  expected: Float32Array,
  width: number,
  bound: number,
): Comparison {
  if (actual.length !== expected.length) {
    const detail = `${actual.length} numbers, expected ${expected.length}`;
    return { what, ok: false, detail, maxAbs: Number.POSITIVE_INFINITY };
  }
  let worst = 0;
  for (let row = 0; row < expected.length; row += width) {
    const values = expected.subarray(row, row + width);
    const largest = values.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
    for (let i = row; i < row + width; i++) {
      const share = Math.abs(actual[i]! - expected[i]!) / (largest || 1);
      if (!(share <= worst)) worst = share;
    }
  }
  const ok = worst <= bound;
  return { what, ok, detail: `${figure(worst)} of a row's largest${ok ? '' : `, at most ${bound}`}`, maxAbs: worst };
}

/** RMS of the difference alone: where one value beside a rounding boundary moves everything behind it. */
export function compareRms(what: string, actual: Float32Array, expected: Float32Array, bound: number): Comparison {
  let [squares, maxAbs] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    squares += difference * difference;
    if (!(difference <= maxAbs)) maxAbs = difference;
  }
  const rms = Math.sqrt(squares / Math.max(1, expected.length));
  const ok = actual.length === expected.length && rms <= bound;
  return { what, ok, detail: `RMS ${figure(rms)}${ok ? '' : `, at most ${bound}`}`, maxAbs };
}

export function compareIds(what: string, actual: ArrayLike<number>, expected: ArrayLike<number>): Comparison {
  const length = Math.max(actual.length, expected.length);
  for (let i = 0; i < length; i++) {
    if (actual[i] === expected[i]) continue;
    return { what, ok: false, detail: `token ${i} is ${actual[i]}, expected ${expected[i]}`, maxAbs: 0 };
  }
  return { what, ok: true, detail: `${length} tokens equal`, maxAbs: 0 };
}

/** Equality of bits: NaN equals NaN, and 0 does not equal -0. */
export function compareBits(what: string, actual: Float32Array, expected: Float32Array): Comparison {
  const length = Math.max(actual.length, expected.length);
  for (let i = 0; i < length; i++) {
    if (Object.is(actual[i], expected[i])) continue;
    return { what, ok: false, detail: `number ${i} is ${actual[i]}, expected the bits of ${expected[i]}`, maxAbs: 0 };
  }
  return { what, ok: true, detail: 'bits equal', maxAbs: 0 };
}

export function compareNumbers(what: string, actual: readonly number[], expected: readonly number[]): Comparison {
  const ok = actual.length === expected.length && actual.every((n, i) => n === expected[i]);
  return { what, ok, detail: ok ? `${actual}` : `[${actual}], expected [${expected}]`, maxAbs: 0 };
}

function leastCosine(a: Float32Array, b: Float32Array, width: number): number {
  let least = 1;
  for (let row = 0; row + width <= b.length; row += width) {
    let [dot, aa, bb] = [0, 0, 0];
    for (let i = row; i < row + width; i++) {
      dot += a[i]! * b[i]!;
      aa += a[i]! * a[i]!;
      bb += b[i]! * b[i]!;
    }
    const cosine = aa === 0 && bb === 0 ? 1 : dot / Math.sqrt(aa * bb);
    if (!(cosine >= least)) least = cosine;
  }
  return least;
}

function figure(x: number): string {
  return x === 0 ? '0' : x.toPrecision(2);
}
