// The ops of training in double precision: straight loops, no tricks. Beside each value, what bounds its rounding error.

type Floats = ArrayLike<number>;

/** One head of one sequence: q, k and v are [length, hd]; row i sees keys 0 .. i. */
export interface CausalHead {
  length: number;
  hd: number;
  scale: number;
  q: Floats;
  k: Floats;
  v: Floats;
}

/** Probabilities [length, length], 0 beyond the diagonal. */
export function causalProbabilities({ length, hd, scale, q, k }: CausalHead): Float64Array {
  const p = new Float64Array(length * length);
  for (let i = 0; i < length; i++) {
    const scores = Array.from({ length: i + 1 }, (_, j) => {
      let dot = 0;
      for (let d = 0; d < hd; d++) dot += q[i * hd + d]! * k[j * hd + d]!;
      return dot * scale;
    });
    const max = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const weights = scores.map((x) => Math.exp(x - max));
    const total = weights.reduce((a, b) => a + b, 0);
    weights.forEach((w, j) => {
      p[i * length + j] = w / total;
    });
  }
  return p;
}

/** o [length, hd] = softmax(scale q k^T) v. */
export function causalAttention(head: CausalHead): Float64Array {
  const { length, hd, v } = head;
  const p = causalProbabilities(head);
  const o = new Float64Array(length * hd);
  for (let i = 0; i < length; i++) {
    for (let j = 0; j <= i; j++) {
      for (let d = 0; d < hd; d++) o[i * hd + d]! += p[i * length + j]! * v[j * hd + d]!;
    }
  }
  return o;
}

/** Gradients [length, hd] and, for each element, the sum of the magnitudes that an implementation adds up for it. */
export interface CausalGradients {
  dq: Float64Array;
  dk: Float64Array;
  dv: Float64Array;
  dqMagnitude: Float64Array;
  dkMagnitude: Float64Array;
  dvMagnitude: Float64Array;
}

/** Of causalAttention, from the gradient of its output and the output itself. */
export function causalAttentionBackward(head: CausalHead, o: Floats, dout: Floats): CausalGradients {
  const { length, hd, scale, q, k, v } = head;
  const p = causalProbabilities(head);
  const zeros = () => new Float64Array(length * hd);
  const [dq, dk, dv] = [zeros(), zeros(), zeros()];
  const [dqMagnitude, dkMagnitude, dvMagnitude] = [zeros(), zeros(), zeros()];
  for (let i = 0; i < length; i++) {
    let [mean, meanMagnitude] = [0, 0];
    for (let d = 0; d < hd; d++) {
      const product = dout[i * hd + d]! * o[i * hd + d]!;
      mean += product;
      meanMagnitude += Math.abs(product);
    }
    for (let j = 0; j <= i; j++) {
      let [dp, dpMagnitude] = [0, 0];
      for (let d = 0; d < hd; d++) {
        const product = dout[i * hd + d]! * v[j * hd + d]!;
        dp += product;
        dpMagnitude += Math.abs(product);
      }
      const probability = p[i * length + j]!;
      const ds = probability * (dp - mean) * scale;
      const dsMagnitude = probability * (dpMagnitude + meanMagnitude) * Math.abs(scale);
      for (let d = 0; d < hd; d++) {
        const [atI, atJ] = [i * hd + d, j * hd + d];
        dv[atJ]! += probability * dout[atI]!;
        dk[atJ]! += ds * q[atI]!;
        dq[atI]! += ds * k[atJ]!;
        dvMagnitude[atJ]! += Math.abs(probability * dout[atI]!);
        dkMagnitude[atJ]! += Math.abs(dsMagnitude * q[atI]!);
        dqMagnitude[atI]! += Math.abs(dsMagnitude * k[atJ]!);
      }
    }
  }
  return { dq, dk, dv, dqMagnitude, dkMagnitude, dvMagnitude };
}

/** The transpose of one head's rotation by cos [hd / 2] and sin [hd / 2]: [value, magnitude] of each element. */
export function rotateBack(d: Floats, cosSin: Floats, hd: number): { values: number[]; magnitudes: number[] } {
  const half = hd / 2;
  const values = new Array<number>(hd);
  const magnitudes = new Array<number>(hd);
  for (let i = 0; i < half; i++) {
    const [cos, sin] = [cosSin[i]!, cosSin[half + i]!];
    const [a, b] = [d[i]!, d[half + i]!];
    values[i] = a * cos + b * sin;
    values[half + i] = b * cos - a * sin;
    magnitudes[i] = Math.abs(a * cos) + Math.abs(b * sin);
    magnitudes[half + i] = Math.abs(b * cos) + Math.abs(a * sin);
  }
  return { values, magnitudes };
}

/**
 * The derivative of `loss` by x[at], by central differences: two step widths, whose difference in the fourth order is
 * taken out, leave an error of the order of step^4.
 */
export function centralDifference(loss: () => number, x: Float64Array, at: number, step = 1e-3): number {
  const kept = x[at]!;
  const slope = (h: number) => {
    x[at] = kept + h;
    const above = loss();
    x[at] = kept - h;
    const below = loss();
    x[at] = kept;
    return (above - below) / (2 * h);
  };
  return (4 * slope(step / 2) - slope(step)) / 3;
}
