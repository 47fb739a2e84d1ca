// Multiply-adds of one micro-step of training, counted op by op in the program that runs. A multiply-add is two FLOPs.

import { numDistinctCaches } from '../dist/model/config.js';

/**
 * FLOPs of the micro-step of `plan` (lib/train/plan.ts) on sequences of `lengths` tokens, of whose rows `counted` have a
 * weight above 0: heads of loss leave the others out.
 *
 * A product of rows x n x k: 2 rows n k, and as much for each gradient of it. Attention: two products with each key that a
 * query sees, 4 Hq hd n (n + 1) / 2 for a sequence of n tokens; its gradient: five, one of them the scores again. A head of
 * loss: the logits (of two models in distillation), the gradient of its input, and that of its weight where it is trained.
 * Norms, activations, softmax and the update are not counted.
 */
export function microStepFlops(plan, config, lengths, counted) {
  const { hiddenSize: d, vocabSize, numHeads, numKvHeads, headDim, numKvLayers } = config;
  const rows = lengths.reduce((sum, n) => sum + n, 0);
  const seen = lengths.reduce((sum, n) => sum + (n * (n + 1)) / 2, 0);
  const { tensors, steps } = plan.microStep.program;
  const width = (index) => tensors[index].shape.at(-1);
  const q = numHeads * headDim;
  const kv = 2 * numKvHeads * headDim;
  const head = 2 * counted * d * vocabSize;
  const flopsOf = {
    linear: ({ a, y }) => 2 * rows * width(a) * width(y),
    linear_backward: ({ a, dy }) => 2 * rows * width(a) * width(dy),
    qkv_rope_cache: () => 2 * rows * d * (q + kv),
    q_rope: () => 2 * rows * d * q,
    swiftkv_project: () => 2 * rows * d * kv * (numDistinctCaches(config) - numKvLayers),
    attention: () => 4 * q * seen,
    attention_backward: () => 10 * q * seen,
    distill_head: () => 3 * head,
    cross_entropy_head: ({ dw }) => (dw === undefined ? 2 : 3) * head,
  };
  return steps.reduce((sum, { op, operands }) => sum + (flopsOf[op]?.(operands) ?? 0), 0);
}
