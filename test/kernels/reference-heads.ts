// Training's products and heads of loss in double precision, forward and backward. Beside each value, what bounds its
// rounding error.

import { linear, type Sums, sumBound } from './reference.ts';
import { roundoff } from './support.ts';

type Floats = ArrayLike<number>;

/** Of y = a W^T + bias: dy^T a and the sum of dy's rows. */
export function linearBackward(a: Floats, dy: Floats, rows: number, n: number, k: number): { dw: Sums; dbias: Sums } {
  const sums = (count: number): Sums => ({ values: new Float64Array(count), magnitudes: new Float64Array(count) });
  const [dw, dbias] = [sums(n * k), sums(n)];
  const add = (to: Sums, at: number, x: number) => {
    to.values[at]! += x;
    to.magnitudes[at]! += Math.abs(x);
  };
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < n; j++) {
      add(dbias, j, dy[i * n + j]!);
      for (let m = 0; m < k; m++) add(dw, j * k + m, dy[i * n + j]! * a[i * k + m]!);
    }
  }
  return { dw, dbias };
}

export interface HeadShape {
  rows: number;
  dim: number;
  vocab: number;
}

/** Losses of rows and the gradient of their logits, each with a bound on its error. */
interface Losses {
  loss: Float64Array;
  lossBound: Float64Array;
  grad: Float64Array;
  gradBound: Float64Array;
}

export interface HeadGradients extends Losses {
  /** [rows, d], of the rows that enter the product */
  dx: Float64Array;
  dxBound: Float64Array;
}

interface Softmax {
  p: Float64Array;
  logP: Float64Array;
  /** On the absolute error of a computed log probability, and so on the relative error of a probability. */
  bound: number;
}

/**
 * A logit is off by what its product is. Scaling, subtracting the maximum and the exponential's argument round values as
 * large as the widest difference of logits; exponential, sum, logarithm and quotient are off by a few units more.
 */
function softmax(logits: Sums, row: number, vocab: number, dim: number, scale: number): Softmax {
  const from = row * vocab;
  let [max, min, magnitude] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, 0];
  for (let v = from; v < from + vocab; v++) {
    max = Math.max(max, logits.values[v]! * scale);
    min = Math.min(min, logits.values[v]! * scale);
    magnitude = Math.max(magnitude, logits.magnitudes[v]!);
  }
  let sum = 0;
  for (let v = from; v < from + vocab; v++) sum += Math.exp(logits.values[v]! * scale - max);
  const logSum = max + Math.log(sum);
  const logP = Float64Array.from({ length: vocab }, (_, v) => logits.values[from + v]! * scale - logSum);
  const widest = Math.max(Math.abs(max), Math.abs(min), max - min, Math.abs(logSum));
  const bound = 2 * sumBound(dim, magnitude) * scale + (6 * widest + 40) * roundoff('f32');
  return { p: logP.map(Math.exp), logP, bound };
}

function losses({ rows, vocab }: HeadShape): Losses {
  const zeros = (n: number) => new Float64Array(n);
  return { loss: zeros(rows), lossBound: zeros(rows), grad: zeros(rows * vocab), gradBound: zeros(rows * vocab) };
}

/** The gradient of logits, rounded to the compute dtype, times W. */
function throughWeights(l: Losses, w: Floats, { rows, dim, vocab }: HeadShape, unit: number): HeadGradients {
  const [dx, dxBound] = [new Float64Array(rows * dim), new Float64Array(rows * dim)];
  for (let r = 0; r < rows; r++) {
    for (let i = 0; i < dim; i++) {
      let [magnitude, inherited] = [0, 0];
      for (let v = 0; v < vocab; v++) {
        const [g, x] = [l.grad[r * vocab + v]!, w[v * dim + i]!];
        dx[r * dim + i]! += g * x;
        magnitude += Math.abs(g * x);
        inherited += (l.gradBound[r * vocab + v]! + unit * Math.abs(g)) * Math.abs(x);
      }
      dxBound[r * dim + i] = inherited + sumBound(vocab, magnitude + inherited);
    }
  }
  return { ...l, dx, dxBound };
}

/** weights[i] T^2 KL(softmax(teacher W^T / T) || softmax(student W^T / T)) and its gradient by student. */
export function distillHead(
  student: Floats,
  teacher: Floats,
  w: Floats,
  weights: Floats,
  temperature: number,
  shape: HeadShape,
  unit: number,
): HeadGradients {
  const { rows, dim, vocab } = shape;
  const l = losses(shape);
  const [ofStudent, ofTeacher] = [
    linear(student, w, null, rows, vocab, dim),
    linear(teacher, w, null, rows, vocab, dim),
  ];
  for (let r = 0; r < rows; r++) {
    const weight = weights[r]!;
    if (weight === 0) continue;
    const q = softmax(ofStudent, r, vocab, dim, 1 / temperature);
    const p = softmax(ofTeacher, r, vocab, dim, 1 / temperature);
    let [divergence, magnitude] = [0, 0];
    for (let v = 0; v < vocab; v++) {
      const apart = p.logP[v]! - q.logP[v]!;
      divergence += p.p[v]! * apart;
      magnitude += p.p[v]! * Math.abs(apart);
      l.grad[r * vocab + v] = weight * temperature * (q.p[v]! - p.p[v]!);
      l.gradBound[r * vocab + v] = Math.abs(weight) * temperature * (q.p[v]! * q.bound + p.p[v]! * p.bound) * 1.1;
    }
    // Log probabilities are weighted with p, which sums to 1; p's own error scales the terms.
    const scale = Math.abs(weight) * temperature * temperature;
    l.loss[r] = weight * temperature * temperature * divergence;
    l.lossBound[r] = scale * 1.1 * (p.bound + q.bound + magnitude * 2 * p.bound);
  }
  return throughWeights(l, w, shape, unit);
}

/** -weights[i] log softmax(a W^T)[ids[i + 1]] and its gradient by a. */
export function crossEntropyHead(
  a: Floats,
  w: Floats,
  ids: Floats,
  weights: Floats,
  shape: HeadShape,
  unit: number,
): HeadGradients {
  const { rows, dim, vocab } = shape;
  const l = losses(shape);
  const logits = linear(a, w, null, rows, vocab, dim);
  for (let r = 0; r < rows - 1; r++) {
    const weight = weights[r]!;
    if (weight === 0) continue;
    const q = softmax(logits, r, vocab, dim, 1);
    const id = ids[r + 1]!;
    for (let v = 0; v < vocab; v++) {
      l.grad[r * vocab + v] = weight * (q.p[v]! - (v === id ? 1 : 0));
      l.gradBound[r * vocab + v] = Math.abs(weight) * (q.p[v]! * q.bound + (v === id ? 2 * roundoff('f32') : 0)) * 1.1;
    }
    l.loss[r] = -weight * q.logP[id]!;
    l.lossBound[r] = Math.abs(weight) * q.bound * 1.1;
  }
  return throughWeights(l, w, shape, unit);
}

/** grad^T a, of a head's rounded gradient of logits. */
export function headWeightGradient(
  head: HeadGradients,
  a: Floats,
  { rows, dim, vocab }: HeadShape,
  unit: number,
): { values: Float64Array; bounds: Float64Array } {
  const { dw } = linearBackward(a, head.grad, rows, vocab, dim);
  const bounds = dw.magnitudes.map((magnitude) => sumBound(rows + 1, magnitude) + unit * magnitude);
  for (let r = 0; r < rows; r++)
    for (let v = 0; v < vocab; v++)
      for (let i = 0; i < dim; i++)
        bounds[v * dim + i]! += head.gradBound[r * vocab + v]! * Math.abs(a[r * dim + i]!) * 1.01;
  return { values: dw.values, bounds };
}

/** w [n, k] as [k, n]. */
export function transpose(w: Floats, n: number, k: number): Float32Array {
  return Float32Array.from({ length: n * k }, (_, i) => w[(i % n) * k + Math.floor(i / n)]!);
}

/** Central differences of a function of `x`, by every element of it. */
export function differences(x: Float64Array, step: number, f: () => number): Float64Array {
  return x.map((_, i) => {
    const at = x[i]!;
    x[i] = at + step;
    const above = f();
    x[i] = at - step;
    const below = f();
    x[i] = at;
    return (above - below) / (2 * step);
  });
}
