// A comparison that cannot fail proves nothing.

import { expect, it } from 'vitest';
import { compareBits, compareIds, compareNumbers, compareRows } from '../../lib/golden/compare.ts';

const f = (...values: number[]) => Float32Array.from(values);

it('f32 rows differ by at most 2e-4', () => {
  expect(compareRows('x', 'f32', f(1, 2 + 1.9e-4), f(1, 2), 2).ok).toBe(true);
  const miss = compareRows('x', 'f32', f(1, 2, 3, 4.001), f(1, 2, 3, 4), 2);
  expect(miss.ok).toBe(false);
  expect(miss.detail).toMatch(/row 1, column 1/);
});

it('NaN, missing rows and extra rows never compare as near', () => {
  for (const dtype of ['f32', 'bf16'] as const) {
    expect(compareRows('x', dtype, f(Number.NaN, 1), f(0, 1), 2).ok, dtype).toBe(false);
    expect(compareRows('x', dtype, f(0, Number.NaN), f(0, 1), 2).ok, dtype).toBe(false);
    expect(compareRows('x', dtype, f(0, Number.POSITIVE_INFINITY), f(0, 1), 2).ok, dtype).toBe(false);
    expect(compareRows('x', dtype, f(), f(0, 1), 2).ok, dtype).toBe(false);
    expect(compareRows('x', dtype, f(0, 1, 2, 3), f(0, 1), 2).ok, dtype).toBe(false);
  }
});

it('bf16 rows are held by RMS, by each element and by direction', () => {
  const row = Float32Array.from({ length: 100 }, (_, i) => 3 * Math.sin(i));
  const off = (change: (x: number, i: number) => number) => row.map(change);
  expect(
    compareRows(
      'x',
      'bf16',
      off((x) => x + 0.1),
      row,
      100,
    ).ok,
  ).toBe(true);
  expect(
    compareRows(
      'x',
      'bf16',
      off((x) => x + 0.13),
      row,
      100,
    ).ok,
  ).toBe(false);
  expect(
    compareRows(
      'x',
      'bf16',
      off((x, i) => (i === 7 ? x + 1.1 : x)),
      row,
      100,
    ).ok,
  ).toBe(false);
  const small = row.map((x) => x / 100);
  expect(
    compareRows(
      'x',
      'bf16',
      off((_, i) => small[i]! + (i % 2 ? 0.02 : -0.02)),
      small,
      100,
    ).ok,
  ).toBe(false);
});

it('ids and numbers are equal in length too', () => {
  expect(compareIds('x', [1, 2], [1, 2]).ok).toBe(true);
  for (const actual of [[1], [1, 3], [1, 2, 3], []]) expect(compareIds('x', actual, [1, 2]).ok).toBe(false);
  expect(compareNumbers('x', [1], [1]).ok).toBe(true);
  expect(compareNumbers('x', [1, 2], [1]).ok).toBe(false);
});

it('bits are bits', () => {
  expect(compareBits('x', f(Number.NaN, 1), f(Number.NaN, 1)).ok).toBe(true);
  expect(compareBits('x', f(-0), f(0)).ok).toBe(false);
  expect(compareBits('x', f(1 + 2 ** -23), f(1)).ok).toBe(false);
  expect(compareBits('x', f(), f(1)).ok).toBe(false);
});
