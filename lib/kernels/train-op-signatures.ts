// The ops of training, which run on the cpu. Symbols as in op-signatures.ts.
//
// Gradients are f32. "update" operands are added to: gradients sum over uses and over micro-steps. Every sum runs in an
// order that depends on shapes alone, so that a call has the same bits on every run and with any number of threads. The
// gradient of a product's input is `linear` with the transposed weight.

import type { AttentionAttrs, AttentionOperands } from './op-signatures.ts';
import type { Tensor } from './tensor.ts';

// biome-ignore lint/complexity/noBannedTypes: an op without attributes takes an empty object or nothing.
type NoAttrs = {};

export interface TrainOpSignatures {
  /** out = in, rounded to nearest even: gradients that enter matrix products. */
  cast_rows: {
    operands: {
      /** [rows, d] f32 */
      in: Tensor;
      /** out: [rows, d] act */
      out: Tensor;
    };
    attrs: NoAttrs;
  };

  /** Of `rms_norm`: dx += its gradient, dw += that of the weights. */
  rms_norm_backward: {
    operands: {
      /** [rows, d] f32 */
      x: Tensor;
      /** [d] f32 */
      w: Tensor;
      /** [rows, d] f32 */
      dout: Tensor;
      /** update: [rows, d] f32 */
      dx: Tensor;
      /** update: [d] f32 */
      dw?: Tensor;
    };
    attrs: { eps: number };
  };

  /** Of `linear`, for its weights: dw += dy^T a, dbias += the sum of dy's rows. */
  linear_backward: {
    operands: {
      /** [rows, k] act */
      a: Tensor;
      /** [rows, n] act, of a's dtype */
      dy: Tensor;
      /** update: [n, k] f32, row-major */
      dw: Tensor;
      /** update: [n] f32 */
      dbias?: Tensor;
    };
    attrs: NoAttrs;
  };

  /**
   * Of `attention`, where the keys of each sequence are its rows of this call: its context length is its number of rows,
   * and its rows have the positions 0, 1, ... The probabilities are computed again from q and the pages.
   */
  attention_backward: {
    operands: AttentionOperands & {
      /** [rows, Hq hd] act, as attention wrote it */
      o: Tensor;
      /** [rows, Hq hd] f32 */
      dout: Tensor;
      /** out: [rows, Hq, hd] f32 */
      dq: Tensor;
      /** [rows, groups * 2 Hk hd] f32: for each group its K heads, then its V heads. Only those of `group` are written */
      dkv: Tensor;
    };
    /** group: 0 by default. accumulate: add to dkv; default false */
    attrs: AttentionAttrs & { group?: number; accumulate?: boolean };
  };

  /**
   * Rotates gradients back and puts them in the order of a projection's outputs: heads of q, then for each group its heads
   * of k, rotated back, and of v. dq, dkv or both.
   */
  rope_backward: {
    operands: {
      /** [P, hd] f32 from `rope_table` */
      rope: Tensor;
      /** [rows] i32 */
      positions: Tensor;
      /** [rows, Hq, hd] f32 */
      dq?: Tensor;
      /** [rows, groups * 2 Hk hd] f32 */
      dkv?: Tensor;
      /** out: [rows, (Hq + groups * 2 Hk) hd] act */
      out: Tensor;
    };
    attrs: { numKvHeads: number };
  };

  /** Of `silu_mul`. */
  silu_mul_backward: {
    operands: {
      /** [rows, ff] f32 */
      dout: Tensor;
      /** [rows, 2 ff] act: gate, then up */
      gateUp: Tensor;
      /** out: [rows, 2 ff] act */
      dGateUp: Tensor;
    };
    attrs: NoAttrs;
  };

  /**
   * loss[i] = weights[i] T^2 KL(p || q) of p = softmax(teacher w^T / T) and q = softmax(student w^T / T), and its gradient.
   * Logits exist for some rows at a time.
   */
  distill_head: {
    operands: {
      /** [rows, d] act */
      student: Tensor;
      /** [rows, d] act */
      teacher: Tensor;
      /** [V, d] f32 or bf16 panels */
      w: Tensor;
      /** [d, V] panels: w transposed */
      wt: Tensor;
      /** [rows] f32; rows of weight 0 have loss and gradient 0 */
      weights: Tensor;
      /** out: [rows] f32 */
      loss: Tensor;
      /** out: [rows, d] f32 */
      dStudent: Tensor;
    };
    attrs: { temperature: number };
  };

  /**
   * loss[i] = -weights[i] log softmax(a w^T)[ids[i + 1]], and its gradients. The last row, and rows of weight 0, have loss
   * and gradient 0. Logits exist for some rows at a time.
   */
  cross_entropy_head: {
    operands: {
      /** [rows, d] act */
      a: Tensor;
      /** [V, d] f32 or bf16 panels */
      w: Tensor;
      /** [d, V] panels: w transposed */
      wt: Tensor;
      /** [rows] i32 */
      ids: Tensor;
      /** [rows] f32 */
      weights: Tensor;
      /** out: [rows] f32 */
      loss: Tensor;
      /** out: [rows, d] f32 */
      da: Tensor;
      /** update: [V, d] f32 */
      dw?: Tensor;
    };
    attrs: NoAttrs;
  };

  /** loss[i] = weights[i] sum of (x - target)^2 over the width; dx += its gradient. */
  mse: {
    operands: {
      /** [rows, d] f32 */
      x: Tensor;
      /** [rows, d] f32 */
      target: Tensor;
      /** [rows] f32 */
      weights: Tensor;
      /** out: [rows] f32 */
      loss: Tensor;
      /** update: [rows, d] f32 */
      dx: Tensor;
    };
    attrs: NoAttrs;
  };

  /** Of `embed`: dTable[ids[i]] += dx[i]. */
  embed_backward: {
    operands: {
      /** update: [V, d] f32, row-major */
      dTable: Tensor;
      /** [rows] i32 */
      ids: Tensor;
      /** [rows, d] f32 */
      dx: Tensor;
    };
    attrs: NoAttrs;
  };

  /** out[0] = the sum of x^2. */
  sum_squares: {
    operands: {
      /** [rows] f32 */
      x: Tensor;
      /** out: [1] f32 */
      out: Tensor;
    };
    attrs: NoAttrs;
  };

  /**
   * One step of AdamW with decoupled decay; the gradient is clipped first and set to 0 afterwards. Where squares is NaN or infinite,
   * nothing else happens.
   */
  adamw: {
    operands: {
      /** [8] f32: lr, beta1, beta2, eps, decay, 1 - beta1^t, 1 - beta2^t, the norm to clip to (Infinity: none) */
      hyper: Tensor;
      /** [1] f32: sum of squares of the whole gradient */
      squares: Tensor;
      /** update: [rows] f32 */
      grad: Tensor;
      /** update: [rows] f32 */
      m: Tensor;
      /** update: [rows] f32 */
      v: Tensor;
      /** update: [rows] f32: the parameters */
      x: Tensor;
    };
    attrs: NoAttrs;
  };

  /** Makes of an f32 matrix what products read: it and, where wanted, its transpose, packed. */
  pack_weight: {
    operands: {
      /** [n, k] f32, row-major */
      src: Tensor;
      /** out: [n, k] f32 or bf16 panels */
      dst: Tensor;
      /** out: [k, n] panels of the same dtype */
      transposed?: Tensor;
    };
    attrs: NoAttrs;
  };
}
