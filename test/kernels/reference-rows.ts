// Training's ops on rows, its gradient norm and its optimiser in double precision: straight loops, no tricks. Beside each
// value, a bound on the error of computing it in f32. u is half a unit of f32, the error of one rounding.

import { roundoff } from './support.ts';

type Floats = ArrayLike<number>;

const u = roundoff('f32');
/** For the products of errors, which first-order bounds leave out. */
const slack = 1.05;

export interface Bounded {
  values: Float64Array;
  bounds: Float64Array;
}

const bounded = (count: number): Bounded => ({ values: new Float64Array(count), bounds: new Float64Array(count) });

function set(to: Bounded, at: number, value: number, bound: number): void {
  to.values[at] = value;
  to.bounds[at] = bound * slack;
}

/**
 * Gradients of sum(dout * rms_norm(x, w)). r is off by half of what the mean of squares is off by, (d / 2 + 4) u; the mean
 * of w dout x, times r^2, by (2 d + 16) u of its magnitudes; dw adds `rows` terms that are each off by what r is.
 */
export function rmsNormBackward(
  x: Floats,
  w: Floats,
  dout: Floats,
  eps: number,
  rows: number,
  dim: number,
  initial: { dx: Floats; dw: Floats },
): { dx: Bounded; dw: Bounded } {
  const dx = bounded(rows * dim);
  const sums = { values: Float64Array.from(initial.dw), magnitudes: Float64Array.from(initial.dw, Math.abs) };
  for (let i = 0; i < rows; i++) {
    let [squares, product, magnitude] = [0, 0, 0];
    for (let j = 0; j < dim; j++) {
      const term = w[j]! * dout[i * dim + j]! * x[i * dim + j]!;
      squares += x[i * dim + j]! ** 2;
      product += term;
      magnitude += Math.abs(term);
    }
    const r = 1 / Math.sqrt(squares / dim + eps);
    for (let j = 0; j < dim; j++) {
      const at = i * dim + j;
      const direct = w[j]! * dout[at]!;
      const gradient = r * (direct - (x[at]! * r * r * product) / dim);
      const size = r * (Math.abs(direct) + (Math.abs(x[at]!) * r * r * magnitude) / dim);
      const before = initial.dx[at]!;
      set(dx, at, before + gradient, ((3 * dim + 32) * size + Math.abs(before)) * u);
      const term = dout[at]! * x[at]! * r;
      sums.values[j]! += term;
      sums.magnitudes[j]! += Math.abs(term);
    }
  }
  const dw = bounded(dim);
  for (let j = 0; j < dim; j++) set(dw, j, sums.values[j]!, (rows + dim / 2 + 10) * sums.magnitudes[j]! * u);
  return { dx, dw };
}

export const siluMul = (gate: number, up: number) => (gate / (1 + Math.exp(-gate))) * up;

/** Gradients of dout silu(gate) up. The sigmoid and 1 minus it are off by 12 u each (silu_mul.test.ts). */
export function siluMulBackward(gate: number, up: number, dout: number): { gate: number; up: number; bound: number[] } {
  const s = 1 / (1 + Math.exp(-gate));
  const rest = 1 / (1 + Math.exp(gate));
  return {
    gate: dout * up * s * (1 + gate * rest),
    up: dout * gate * s,
    bound: [
      32 * u * Math.abs(dout * up * s) * (1 + Math.abs(gate) * rest) * slack,
      16 * u * Math.abs(dout * gate * s) * slack,
    ],
  };
}

/** weights[i] |x - target|^2 and its gradient: all terms of a loss have one sign, so it is off by (d + 6) u of itself. */
export function mse(
  x: Floats,
  target: Floats,
  weights: Floats,
  rows: number,
  dim: number,
  initial: { dx: Floats },
): { loss: Bounded; dx: Bounded } {
  const [loss, dx] = [bounded(rows), bounded(rows * dim)];
  for (let i = 0; i < rows; i++) {
    let sum = 0;
    for (let j = 0; j < dim; j++) {
      const at = i * dim + j;
      const difference = x[at]! - target[at]!;
      const gradient = 2 * weights[i]! * difference;
      sum += difference ** 2;
      set(dx, at, initial.dx[at]! + gradient, (Math.abs(initial.dx[at]!) + 4 * Math.abs(gradient)) * u);
    }
    set(loss, i, weights[i]! * sum, (dim + 6) * u * Math.abs(weights[i]! * sum));
  }
  return { loss, dx };
}

/** Rows added to the rows of the table that they came from. */
export function embedBackward(ids: Int32Array, dx: Floats, dim: number, initial: Floats): Bounded {
  const values = Float64Array.from(initial);
  const magnitudes = Float64Array.from(initial, Math.abs);
  ids.forEach((id, i) => {
    for (let j = 0; j < dim; j++) {
      values[id * dim + j]! += dx[i * dim + j]!;
      magnitudes[id * dim + j]! += Math.abs(dx[i * dim + j]!);
    }
  });
  return { values, bounds: magnitudes.map((magnitude) => ids.length * magnitude * u * slack) };
}

export function sumSquares(x: Floats): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! ** 2;
  return sum;
}

export interface AdamwHyper {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  decay: number;
  clip: number;
}

/** Optimiser state of one tensor; `step` counts from 1. Hyper-parameters are those that f32 has. */
export class Adamw {
  readonly x: Float64Array;
  readonly m: Float64Array;
  readonly v: Float64Array;
  /** Of x: what all steps so far can be off by. */
  readonly bounds: Float64Array;
  /** Running mean of |gradient|, which m's error is a share of. */
  readonly #size: Float64Array;
  #step = 0;

  constructor(x: Floats) {
    this.x = Float64Array.from(x);
    [this.m, this.v, this.bounds, this.#size] = [0, 1, 2, 3].map(() => new Float64Array(x.length)) as [
      Float64Array,
      Float64Array,
      Float64Array,
      Float64Array,
    ];
  }

  /** What the op takes as `hyper` at the next step. */
  hyper({ lr, beta1, beta2, eps, decay, clip }: AdamwHyper): Float32Array {
    const t = this.#step + 1;
    return Float32Array.of(lr, beta1, beta2, eps, decay, 1 - beta1 ** t, 1 - beta2 ** t, clip);
  }

  /**
   * m is off by 5 u a step of the gradients that it averages, v by 8 u of itself; the root halves that, and the quotient
   * and the products around it add 8 u. x rounds twice a step.
   */
  step(hyper: Float32Array, gradient: Floats): void {
    const [lr, beta1, beta2, eps, decay, c1, c2, clip] = [...hyper] as number[] as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const factor = Math.min(1, clip / Math.sqrt(sumSquares(gradient)));
    const t = ++this.#step;
    for (let i = 0; i < this.x.length; i++) {
      const g = gradient[i]! * factor;
      this.#size[i] = beta1 * this.#size[i]! + (1 - beta1) * Math.abs(g);
      this.m[i] = beta1 * this.m[i]! + (1 - beta1) * g;
      this.v[i] = beta2 * this.v[i]! + (1 - beta2) * g * g;
      const root = Math.sqrt(this.v[i]! / c2) + eps;
      const before = this.x[i]!;
      this.x[i] = before - lr * decay * before - (lr * this.m[i]!) / c1 / root;
      const roundings = 3 * Math.abs(before) + (13 * t + 8) * ((lr * this.#size[i]!) / c1 / root);
      this.bounds[i]! += roundings * u * slack;
    }
  }

  mBound(i: number): number {
    return 5 * this.#step * u * this.#size[i]! * slack;
  }

  vBound(i: number): number {
    return 8 * this.#step * u * this.v[i]! * slack;
  }
}
