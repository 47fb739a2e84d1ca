// Floating-point operations of a step, from the config: a multiply-add is two; norms, RoPE and softmax are not counted.

import type { ModelConfig } from '../../model/config.ts';

export type FlopShape = Pick<
  ModelConfig,
  | 'vocabSize'
  | 'hiddenSize'
  | 'intermediateSize'
  | 'numLayers'
  | 'numHeads'
  | 'numKvHeads'
  | 'headDim'
  | 'numKvLayers'
  | 'groupSize'
>;

/** Of one row: the products of a layer. */
export interface LayerFlops {
  /** The query and output projections. */
  qo: number;
  /** The key and value projections, of one cache. */
  kv: number;
  mlp: number;
  /** Scores and weighted sum, for one key. */
  key: number;
}

export function layerFlops(c: FlopShape): LayerFlops {
  return {
    qo: 4 * c.hiddenSize * c.numHeads * c.headDim,
    kv: 4 * c.hiddenSize * c.numKvHeads * c.headDim,
    mlp: 6 * c.hiddenSize * c.intermediateSize,
    key: 4 * c.numHeads * c.headDim,
  };
}

/** Keys that `rows` rows from position `depth` see together: row i sees those up to itself. */
export function visibleKeys(rows: number, depth: number): number {
  return rows * depth + (rows * (rows + 1)) / 2;
}

/** A prompt of `rows` tokens behind `depth` cached ones, of which the last one's logits are wanted. */
export function prefillFlops(c: FlopShape, rows: number, depth = 0): number {
  const { qo, kv, mlp, key } = layerFlops(c);
  const later = c.numLayers - c.numKvLayers;
  const early = c.numKvLayers * (rows * (qo + kv + mlp) + key * visibleKeys(rows, depth));
  // Every row gets the later layers' keys and values, once for each group; only the last row goes through them.
  const project = (later / c.groupSize) * rows * kv;
  const survivors = later * (qo + mlp + key * (depth + rows));
  return early + project + survivors + headFlops(c);
}

/** One token behind `depth` cached ones. */
export function decodeFlops(c: FlopShape, depth: number): number {
  return prefillFlops(c, 1, depth);
}

/** A whole request: a prompt of `prompt` tokens, and an answer of `answer` of which the last is not fed back. */
export function requestFlops(c: FlopShape, prompt: number, answer: number): number {
  // FLOPs of a token are linear in its depth: the middle one stands for all.
  return prefillFlops(c, prompt) + (answer - 1) * decodeFlops(c, prompt + (answer - 2) / 2);
}

function headFlops(c: FlopShape): number {
  return 2 * c.hiddenSize * c.vocabSize;
}

/** How many times faster the prompt is if time follows FLOPs alone. */
export function flopRatio(base: FlopShape, variant: FlopShape, rows: number, depth = 0): number {
  return prefillFlops(base, rows, depth) / prefillFlops(variant, rows, depth);
}
