import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { ropeTable, rotate } from './reference.ts';
import { centralDifference, rotateBack } from './reference-train.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  headDims,
  Random,
  roundoff,
  rowCounts,
  seeds,
  withScope,
} from './support.ts';

const shapes = fc.record({
  rows: rowCounts,
  /** Query heads of a KV head; 0: without dq. */
  ratio: fc.constantFrom(0, 1, 2, 3, 4),
  groups: fc.constantFrom(0, 1, 2),
  hk: fc.constantFrom(1, 2, 3),
  hd: headDims,
  dtype: computeDtypes,
  seed: seeds,
});
type Shape =
  typeof shapes extends fc.Arbitrary<infer T> ? { [K in keyof T]: T[K] extends number ? number : T[K] } : never;

const positionCount = 40;

function makeInputs({ rows, ratio, groups, hk, hd, seed }: Shape) {
  const heads = ratio * hk;
  const random = new Random(seed);
  const invFreq = Float32Array.from({ length: hd / 2 }, (_, i) => 10000 ** ((-2 * i) / hd));
  return {
    rope: ropeTable(invFreq, positionCount),
    positions: random.ints(rows, positionCount),
    dq: random.floats(rows * heads * hd),
    dkv: random.floats(rows * groups * 2 * hk * hd),
  };
}

function run(device: Device, shape: Shape): { bytes: Uint8Array; values: Float32Array } {
  const { rows, ratio, groups, hk, hd, dtype } = shape;
  const heads = ratio * hk;
  const inputs = makeInputs(shape);
  return withScope(device, (s) => {
    const out = s.out([rows, (heads + groups * 2 * hk) * hd], dtype);
    ops.sync.rope_backward(
      {
        rope: s.floats(inputs.rope, [positionCount, hd]),
        positions: s.ints(inputs.positions),
        ...(heads > 0 ? { dq: s.floats(inputs.dq, [rows, heads, hd]) } : {}),
        ...(groups > 0 ? { dkv: s.floats(inputs.dkv, [rows, groups * 2 * hk * hd]) } : {}),
        out,
      },
      { numKvHeads: hk },
    );
    return { bytes: out.toBytes(), values: out.toFloat32Array() };
  });
}

/** Two products and a sum, three roundings, and that to the output's dtype. */
function reference(shape: Shape) {
  const { rows, ratio, groups, hk, hd, dtype } = shape;
  const heads = ratio * hk;
  const { rope, positions, dq, dkv } = makeInputs(shape);
  const width = (heads + groups * 2 * hk) * hd;
  const values = new Float64Array(rows * width);
  const bounds = new Float64Array(rows * width);
  const put = (at: number, d: Float32Array, cosSin: Float32Array) => {
    const back = rotateBack(d, cosSin, hd);
    values.set(back.values, at);
    bounds.set(
      back.magnitudes.map((m, i) => 3 * roundoff('f32') * m + roundoff(dtype) * Math.abs(back.values[i]!) * 1.01),
      at,
    );
  };
  for (let r = 0; r < rows; r++) {
    const cosSin = rope.subarray(positions[r]! * hd, (positions[r]! + 1) * hd);
    for (let h = 0; h < heads; h++) {
      const from = (r * heads + h) * hd;
      put(r * width + h * hd, dq.subarray(from, from + hd), cosSin);
    }
    for (let part = 0; part < groups * 2 * hk; part++) {
      const from = (r * groups * 2 * hk + part) * hd;
      const to = r * width + (heads + part) * hd;
      const d = dkv.subarray(from, from + hd);
      if (part % (2 * hk) < hk) {
        put(to, d, cosSin);
        continue;
      }
      d.forEach((x, i) => {
        values[to + i] = x;
        bounds[to + i] = dtype === 'f32' ? 0 : roundoff(dtype) * Math.abs(x);
      });
    }
  }
  return { values, bounds };
}

const some = shapes.filter(({ ratio, groups }) => ratio + groups > 0);

it('rotateBack is the gradient of the rotation', () =>
  check(fc.record({ hd: fc.constantFrom(2, 6, 16), seed: seeds }), ({ hd, seed }) => {
    const random = new Random(seed);
    const rope = ropeTable(
      Float32Array.from({ length: hd / 2 }, (_, i) => 0.7 ** i),
      4,
    );
    const x = Float64Array.from(random.floats(hd));
    const dout = random.floats(hd);
    const loss = () => {
      const sums = { values: x.slice(), magnitudes: new Float64Array(hd) };
      rotate(sums, rope, [3], 1, 1, hd);
      return sums.values.reduce((sum, value, i) => sum + value * dout[i]!, 0);
    };
    const { values } = rotateBack(dout, rope.subarray(3 * hd), hd);
    // The loss is linear: only its cancellation is left, about 1e-16 of it over the step.
    for (let i = 0; i < hd; i++) expect(Math.abs(centralDifference(loss, x, i) - values[i]!)).toBeLessThan(1e-10);
  }));

describeLevels('rope_backward', (device, oneThread) => {
  it('equals the reference, heads of q before those of each group', () =>
    check(some, (shape) => {
      const { values, bounds } = reference(shape);
      expectClose(run(device, shape).values, values, (i) => bounds[i]!);
    }));

  it('gives the same bits on one thread and on two', () =>
    check(some, (shape) => expectBits(run(oneThread, shape).bytes, run(device, shape).bytes)));

  it('takes many rows', () => {
    const shape: Shape = { rows: 1000, ratio: 2, groups: 2, hk: 4, hd: 32, dtype: 'bf16', seed: 5 };
    const { values, bounds } = reference(shape);
    expectClose(run(device, shape).values, values, (i) => bounds[i]!);
    expectBits(run(oneThread, shape).bytes, run(device, shape).bytes);
  });
});
