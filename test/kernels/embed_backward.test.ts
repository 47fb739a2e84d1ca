import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { differences } from './reference-heads.ts';
import { embedBackward } from './reference-rows.ts';
import {
  check,
  describeLevels,
  expectBits,
  expectClose,
  Random,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

interface Shape {
  rows: number;
  dim: number;
  vocab: number;
  seed: number;
}

function inputs({ rows, dim, vocab, seed }: Shape) {
  const random = new Random(seed);
  return {
    ids: random.ints(rows, vocab),
    dx: random.floats(rows * dim),
    table: random.floats(vocab * dim),
  };
}

function run(device: Device, shape: Shape): Float32Array {
  return withScope(device, (s) => {
    const { rows, dim, vocab } = shape;
    const { ids, dx, table } = inputs(shape);
    const dTable = s.floats(table, [vocab, dim]);
    ops.sync.embed_backward({ dTable, ids: s.ints(ids), dx: s.floats(dx, [rows, dim]) });
    return dTable.toFloat32Array();
  });
}

function compare(device: Device, oneThread: Device, shape: Shape): void {
  const { ids, dx, table } = inputs(shape);
  const actual = run(device, shape);
  const { values, bounds } = embedBackward(ids, dx, shape.dim, table);
  expectClose(actual, values, (i) => bounds[i]!);
  expectBits(run(oneThread, shape), actual, 'table on one thread');
}

describeLevels('embed_backward', (device, oneThread) => {
  it('equals the reference on any shape, with tokens that repeat', () =>
    check(fc.record({ rows: rowCounts, dim: widths, vocab: fc.constantFrom(1, 2, 7, 100), seed: seeds }), (shape) =>
      compare(device, oneThread, shape),
    ));

  it.each([255, 256, 257, 1000])('takes pieces of columns of width %i', (dim) =>
    compare(device, oneThread, { rows: 200, dim, vocab: 50, seed: 4 }),
  );

  it('leaves the rows of other tokens as they are', () =>
    withScope(device, (s) => {
      const dTable = s.floats([1, 2, 3, 4, 5, 6], [3, 2]);
      ops.sync.embed_backward({ dTable, ids: s.ints([2, 0, 2]), dx: s.floats([1, 1, 10, 10, 100, 100], [3, 2]) });
      expect([...dTable.toFloat32Array()]).toEqual([11, 12, 3, 4, 106, 107]);
    }));

  it('refuses a token that the table does not have', () =>
    withScope(device, (s) => {
      const operands = { dTable: s.floats([1, 2], [2, 1]), ids: s.ints([0, 2]), dx: s.floats([1, 1], [2, 1]) };
      expect(() => ops.sync.embed_backward(operands)).toThrow('ids');
      expect([...operands.dTable.toFloat32Array()]).toEqual([1, 2]);
    }));
});

it('the reference of embed_backward agrees with differences of the forward pass', () =>
  check(fc.tuple(fc.constantFrom(1, 3, 6), fc.constantFrom(1, 3), seeds), ([rows, dim, seed]) => {
    const shape = { rows, dim, vocab: 4, seed };
    const { ids, dx, table } = inputs(shape);
    const weights = Float64Array.from(table);
    const loss = () => dx.reduce((sum, g, i) => sum + g * weights[ids[Math.floor(i / dim)]! * dim + (i % dim)]!, 0);
    const { values } = embedBackward(ids, dx, dim, new Float64Array(table.length));
    expectClose(differences(weights, 1e-3, loss), values, () => 1e-10);
  }));
