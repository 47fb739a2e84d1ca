// Which tensors of a checkpoint the forward pass needs, and how they are fused: one matrix for q, k and v; one for gate
// and up; one for the keys and values of all later groups. Teacher projections of later layers are not among them.

import type { ModelConfig } from './config.ts';

type LayerWeight =
  | 'input_norm'
  | 'qkv'
  | 'qkv_bias'
  | 'q_norm'
  | 'k_norm'
  | 'q'
  | 'q_bias'
  | 'o'
  | 'o_bias'
  | 'post_norm'
  | 'gate_up'
  | 'gate_up_bias'
  | 'down'
  | 'down_bias';

/** Constants of a program. `rope` is computed, the others are loaded. A tied embedding is `head`. */
export type WeightKey =
  | 'rope'
  | 'embed'
  | 'norm'
  | 'head'
  | 'norm_swiftkv'
  | 'kv_swiftkv'
  | 'kv_swiftkv_bias'
  | 'k_norm_swiftkv'
  | `layers.${number}.${LayerWeight}`;

/** A weight transposed, which training multiplies gradients with. */
export type TransposedKey = `${WeightKey} transposed`;

/** Rows of a target that come from one tensor; `name` null: zeros (a bias that this part does not have). */
export interface WeightPart {
  name: string | null;
  rows: number;
  shape: readonly number[];
}

/**
 * One tensor in memory.
 * matrix: [rows, k] packed in the compute dtype. table: [rows, k] row-major in it. vector: [rows] f32, k = 1. vectors:
 * [rows, k] f32, one tensor a row.
 */
export interface WeightTarget {
  key: WeightKey;
  kind: 'matrix' | 'table' | 'vector' | 'vectors';
  rows: number;
  k: number;
  parts: readonly WeightPart[];
}

/** Weights of Llama-like decoders, SwiftKV's included, in the order in which the forward pass reads them. */
export function* decoderWeights(c: ModelConfig): Generator<WeightTarget> {
  const d = c.hiddenSize;
  const q = c.numHeads * c.headDim;
  const kv = c.numKvHeads * c.headDim;
  if (!c.tieWordEmbeddings) yield table('embed', 'model.embed_tokens.weight', c.vocabSize, d);
  for (let l = 0; l < c.numLayers; l++) {
    const layer = `model.layers.${l}`;
    const attn = `${layer}.self_attn`;
    yield vector(`layers.${l}.input_norm`, [[`${layer}.input_layernorm.weight`, d]]);
    if (l < c.numKvLayers) {
      yield* linear(`layers.${l}.qkv`, `layers.${l}.qkv_bias`, d, [
        [`${attn}.q_proj`, q, c.bias.q],
        [`${attn}.k_proj`, kv, c.bias.k],
        [`${attn}.v_proj`, kv, c.bias.v],
      ]);
      if (c.qkNorm) {
        yield vector(`layers.${l}.q_norm`, [[`${attn}.q_norm.weight`, c.headDim]]);
        yield vector(`layers.${l}.k_norm`, [[`${attn}.k_norm.weight`, c.headDim]]);
      }
    } else {
      if (l === c.numKvLayers) yield* swiftkvWeights(c);
      yield* linear(`layers.${l}.q`, `layers.${l}.q_bias`, d, [[`${attn}.q_proj_swiftkv`, q, c.bias.q]]);
      if (c.qkNorm) yield vector(`layers.${l}.q_norm`, [[`${attn}.q_norm_swiftkv.weight`, c.headDim]]);
    }
    yield* linear(`layers.${l}.o`, `layers.${l}.o_bias`, q, [[`${attn}.o_proj`, d, c.bias.o]]);
    yield vector(`layers.${l}.post_norm`, [[`${layer}.post_attention_layernorm.weight`, d]]);
    yield* linear(`layers.${l}.gate_up`, `layers.${l}.gate_up_bias`, d, [
      [`${layer}.mlp.gate_proj`, c.intermediateSize, c.bias.mlp],
      [`${layer}.mlp.up_proj`, c.intermediateSize, c.bias.mlp],
    ]);
    yield* linear(`layers.${l}.down`, `layers.${l}.down_bias`, c.intermediateSize, [
      [`${layer}.mlp.down_proj`, d, c.bias.mlp],
    ]);
  }
  yield vector('norm', [['model.norm.weight', d]]);
  const head = c.tieWordEmbeddings ? 'model.embed_tokens' : 'lm_head';
  yield { ...table('head', `${head}.weight`, c.vocabSize, d), kind: 'matrix' };
}

/** The boundary: one norm, and for each group of later layers its leader's key rows, then its value rows (and
 * the norm of its key heads). */
function* swiftkvWeights(c: ModelConfig): Generator<WeightTarget> {
  const kv = c.numKvHeads * c.headDim;
  const projections: Projection[] = [];
  const keyNorms: string[] = [];
  for (let leader = c.numKvLayers; leader < c.numLayers; leader += c.groupSize) {
    const attn = `model.layers.${leader}.self_attn`;
    projections.push([`${attn}.k_proj_swiftkv`, kv, c.bias.k], [`${attn}.v_proj_swiftkv`, kv, c.bias.v]);
    keyNorms.push(`${attn}.k_norm_swiftkv.weight`);
  }
  yield vector('norm_swiftkv', [['model.norm_swiftkv.weight', c.hiddenSize]]);
  yield* linear('kv_swiftkv', 'kv_swiftkv_bias', c.hiddenSize, projections);
  if (c.qkNorm) {
    const parts = keyNorms.map((name) => ({ name, rows: 1, shape: [c.headDim] }));
    yield { key: 'k_norm_swiftkv', kind: 'vectors', rows: parts.length, k: c.headDim, parts };
  }
}

/** Module name, output rows, whether it has a bias. */
type Projection = [module: string, rows: number, bias: boolean];

/** Projections of one input, one under the other; their biases, where any has one, with zeros for the others. */
function* linear(
  key: WeightKey,
  biasKey: WeightKey,
  k: number,
  projections: readonly Projection[],
): Generator<WeightTarget> {
  yield {
    key,
    kind: 'matrix',
    rows: projections.reduce((sum, [, rows]) => sum + rows, 0),
    k,
    parts: projections.map(([module, rows]) => ({ name: `${module}.weight`, rows, shape: [rows, k] })),
  };
  if (projections.some(([, , bias]) => bias)) {
    yield vector(
      biasKey,
      projections.map(([module, rows, bias]) => [bias ? `${module}.bias` : null, rows]),
    );
  }
}

function table(key: WeightKey, name: string, rows: number, k: number): WeightTarget {
  return { key, kind: 'table', rows, k, parts: [{ name, rows, shape: [rows, k] }] };
}

function vector(key: WeightKey, parts: readonly [name: string | null, rows: number][]): WeightTarget {
  return {
    key,
    kind: 'vector',
    rows: parts.reduce((sum, [, rows]) => sum + rows, 0),
    k: 1,
    parts: parts.map(([name, rows]) => ({ name, rows, shape: [rows] })),
  };
}
