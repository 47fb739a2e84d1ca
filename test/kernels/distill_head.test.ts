import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { differences, distillHead, transpose } from './reference-heads.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  Random,
  roundoff,
  seeds,
  withScope,
} from './support.ts';

interface Shape {
  rows: number;
  dim: number;
  vocab: number;
  dtype: 'f32' | 'bf16';
  temperature: number;
  /** Out of 8, how many rows weigh something. */
  weighed: number;
  seed: number;
}

type Inputs = ReturnType<typeof inputs>;

function inputs({ rows, dim, vocab, dtype, weighed, seed }: Shape) {
  const random = new Random(seed);
  const student = random.floats(rows * dim, dtype, 2);
  const teacher = random.floats(rows * dim, dtype, 2);
  const weights = random.floats(rows).map((x) => (random.below(8) < weighed ? x : 0));
  return { student, teacher, w: random.floats(vocab * dim, dtype), weights };
}

function run(device: Device, shape: Shape, of: Inputs) {
  return withScope(device, (s) => {
    const { rows, dim, vocab, dtype, temperature } = shape;
    const [loss, dStudent] = [s.out([rows]), s.out([rows, dim])];
    ops.sync.distill_head(
      {
        student: s.floats(of.student, [rows, dim], dtype),
        teacher: s.floats(of.teacher, [rows, dim], dtype),
        w: s.floats(of.w, [vocab, dim], dtype, 'panels'),
        wt: s.floats(transpose(of.w, vocab, dim), [dim, vocab], dtype, 'panels'),
        weights: s.floats(of.weights, [rows]),
        loss,
        dStudent,
      },
      { temperature },
    );
    return { loss: loss.toFloat32Array(), dStudent: dStudent.toFloat32Array() };
  });
}

function compare(device: Device, oneThread: Device, shape: Shape) {
  const of = inputs(shape);
  const expected = distillHead(
    of.student,
    of.teacher,
    of.w,
    of.weights,
    shape.temperature,
    shape,
    shape.dtype === 'bf16' ? roundoff('bf16') : 0,
  );
  const { loss, dStudent } = run(device, shape, of);
  expectClose(loss, expected.loss, (i) => expected.lossBound[i]!, 'loss');
  expectClose(dStudent, expected.dx, (i) => expected.dxBound[i]!, 'dStudent');
  const alone = run(oneThread, shape, of);
  expectBits(alone.loss, loss, 'loss on one thread');
  expectBits(alone.dStudent, dStudent, 'dStudent on one thread');
}

describeLevels('distill_head', (device, oneThread) => {
  it('equals the reference on any shape and dtype', () =>
    check(
      fc.record({
        rows: fc.constantFrom(0, 1, 2, 5, 17),
        dim: fc.constantFrom(1, 7, 32, 65),
        vocab: fc.constantFrom(1, 2, 15, 63, 64, 65, 130, 515),
        dtype: computeDtypes,
        temperature: fc.constantFrom(0.5, 1, 2, 3),
        weighed: fc.constantFrom(0, 1, 4, 8),
        seed: seeds,
      }),
      (shape) => compare(device, oneThread, shape),
      60,
    ));

  it.each([
    { rows: 4, dim: 256, vocab: 4096, weighed: 8 },
    { rows: 300, dim: 33, vocab: 129, weighed: 8 },
    { rows: 1100, dim: 16, vocab: 65, weighed: 4 },
  ])('takes many rows and tokens: %o', (shape) => {
    for (const dtype of ['f32', 'bf16'] as const)
      compare(device, oneThread, { ...shape, dtype, temperature: 2, seed: 11 });
  });

  it('counts probabilities of 0 as 0, and gives a student that is the teacher no loss', () =>
    withScope(device, (s) => {
      // Logits of 0, 400 and -400 in turn: all but one of the teacher's probabilities are 0 in f32.
      const vocab = 96;
      const w = Float32Array.from({ length: vocab }, (_, v) => (v === 41 ? 1 : v % 2 ? -1 : 0));
      const operands = (student: number[], teacher: number[]) => ({
        student: s.floats(student, [2, 1]),
        teacher: s.floats(teacher, [2, 1]),
        w: s.floats(w, [vocab, 1], 'f32', 'panels'),
        wt: s.floats(w, [1, vocab], 'f32', 'panels'),
        weights: s.floats([1, 1], [2]),
        loss: s.out([2]),
        dStudent: s.out([2, 1]),
      });
      const apart = operands([400, -400], [400, 400]);
      ops.sync.distill_head(apart, { temperature: 1 });
      // Against -400, softmax has 47 tokens (all but 41 of the odd ones) at logit 400.
      expect(apart.loss.toFloat32Array()[0]).toBe(0);
      expect(apart.loss.toFloat32Array()[1]).toBeCloseTo(800 + Math.log(47), 3);
      expect(apart.dStudent.toFloat32Array()[0]).toBe(0);
      expect(apart.dStudent.toFloat32Array()[1]).toBeCloseTo(-2, 5);
      const same = operands([3, 0.5], [3, 0.5]);
      ops.sync.distill_head(same, { temperature: 2 });
      expect(same.loss.toFloat32Array()).toEqual(Float32Array.of(0, 0));
      expect(same.dStudent.toFloat32Array()).toEqual(Float32Array.of(0, 0));
    }));

  it('gives a row the same bits alone and among others', () => {
    const shape: Shape = { rows: 9, dim: 31, vocab: 200, dtype: 'bf16', temperature: 2, weighed: 8, seed: 7 };
    const of = inputs(shape);
    const all = run(device, shape, of);
    withScope(device, (s) => {
      const row = (x: Float32Array, width: number) => x.subarray(4 * width, 5 * width);
      const [loss, dStudent] = [s.out([1]), s.out([1, 31])];
      ops.sync.distill_head(
        {
          student: s.floats(row(of.student, 31), [1, 31], 'bf16'),
          teacher: s.floats(row(of.teacher, 31), [1, 31], 'bf16'),
          w: s.floats(of.w, [200, 31], 'bf16', 'panels'),
          wt: s.floats(transpose(of.w, 200, 31), [31, 200], 'bf16', 'panels'),
          weights: s.floats(row(of.weights, 1), [1]),
          loss,
          dStudent,
        },
        { temperature: 2 },
      );
      expectBits(loss.toFloat32Array(), row(all.loss, 1).slice(), 'loss');
      expectBits(dStudent.toFloat32Array(), row(all.dStudent, 31).slice(), 'dStudent');
    });
  });
});

it('the reference is the gradient of its losses', () =>
  check(
    fc.tuple(fc.constantFrom(1, 3), fc.constantFrom(1, 4), fc.constantFrom(1, 2, 9), fc.constantFrom(1, 2), seeds),
    ([rows, dim, vocab, temperature, seed]) => {
      const shape = { rows, dim, vocab };
      const of = inputs({ ...shape, dtype: 'f32', temperature, weighed: 8, seed });
      const student = Float64Array.from(of.student);
      const head = () => distillHead(student, of.teacher, of.w, of.weights, temperature, shape, 0);
      const { dx } = head();
      const total = () => head().loss.reduce((sum, x) => sum + x, 0);
      // The step's square times a third derivative of a few units, and 2^-53 of the loss over the step.
      differences(student, 1e-5, total).forEach((d, i) => void expect(d).toBeCloseTo(dx[i]!, 7));
    },
    30,
  ));
