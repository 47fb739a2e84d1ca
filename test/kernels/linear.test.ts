import fc from 'fast-check';
import { it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import * as reference from './reference.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  Random,
  roundoff,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

describeLevels('linear', (device, oneThread) => {
  it('equals the reference on any shape and dtype, with and without bias', () => {
    const shapes = fc.record({
      rows: rowCounts,
      n: widths,
      k: widths,
      dtype: computeDtypes,
      outDtype: computeDtypes,
      hasBias: fc.boolean(),
      seed: seeds,
    });
    check(
      shapes,
      ({ rows, n, k, dtype, outDtype, hasBias, seed }) =>
        withScope(device, (s) => {
          const random = new Random(seed);
          const [a, w] = [random.floats(rows * k, dtype), random.floats(n * k, dtype)];
          const bias = hasBias ? random.floats(n) : null;
          const y = s.out([rows, n], outDtype);
          ops.sync.linear({
            a: s.floats(a, [rows, k], dtype),
            w: s.floats(w, [n, k], dtype, 'panels'),
            ...(bias ? { bias: s.floats(bias, [n]) } : {}),
            y,
          });
          const { values, magnitudes } = reference.linear(a, w, bias, rows, n, k);
          expectClose(
            y.toFloat32Array(),
            values,
            (i) => reference.sumBound(k + 1, magnitudes[i]!) + roundoff(outDtype) * Math.abs(values[i]!) * 1.01,
          );
        }),
      100,
    );
  });

  it('adds into the residual stream with accumulate', () =>
    check(fc.tuple(rowCounts, widths, widths, computeDtypes, seeds), ([rows, n, k, dtype, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const [a, w] = [random.floats(rows * k, dtype), random.floats(n * k, dtype)];
        const residual = random.floats(rows * n, 'f32', 4);
        const y = s.floats(residual, [rows, n]);
        const operands = { a: s.floats(a, [rows, k], dtype), w: s.floats(w, [n, k], dtype, 'panels'), y };
        ops.sync.linear(operands, { accumulate: true });
        const { values, magnitudes } = reference.linear(a, w, null, rows, n, k);
        expectClose(
          y.toFloat32Array(),
          values.map((v, i) => v + residual[i]!),
          (i) => reference.sumBound(k + 1, magnitudes[i]! + Math.abs(residual[i]!)),
        );
      }),
    ));

  it('gives a row the same bits alone and among others, on one thread and on two', () =>
    check(
      fc.tuple(fc.constantFrom(2, 5, 16, 17, 33), widths, widths, computeDtypes, seeds),
      ([rows, n, k, dtype, seed]) => {
        const random = new Random(seed);
        const [a, w] = [random.floats(rows * k, dtype), random.floats(n * k, dtype)];
        const from = random.below(rows);
        const count = 1 + random.below(rows - from);
        const bytes = (on: Device, first: number, number: number) =>
          withScope(on, (s) => {
            const some = s.floats(a.subarray(first * k, (first + number) * k), [number, k], dtype);
            const y = s.out([number, n]);
            ops.sync.linear({ a: some, w: s.floats(w, [n, k], dtype, 'panels'), y });
            return y.toBytes();
          });
        const all = bytes(device, 0, rows);
        expectBits(bytes(oneThread, 0, rows), all, 'on one thread');
        expectBits(bytes(device, from, count), all.subarray(from * n * 4, (from + count) * n * 4), 'among others');
      },
    ));

  it('reads a panel matrix back as it was written', () =>
    check(fc.tuple(widths, widths, computeDtypes, seeds), ([n, k, dtype, seed]) =>
      withScope(device, (s) => {
        const values = new Random(seed).floats(n * k, dtype);
        expectBits(s.floats(values, [n, k], dtype, 'panels').toFloat32Array(), values);
      }),
    ));
});
