// Random checkpoints as real Hugging Face folders: the model shapes that golden data does not have.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TensorToWrite, writeSafetensors } from '../../lib/checkpoint/write-safetensors.ts';

export interface GeneratedModel {
  /** `model_type`, without `_swiftkv`. */
  family: 'llama' | 'qwen2' | 'qwen3' | 'mistral';
  layers: number;
  /** n; null: a plain model. */
  kvLayers: number | null;
  group: number;
  hiddenSize: number;
  heads: number;
  kvHeads: number;
  /** null: hiddenSize / heads, and no head_dim in the config. */
  headDim: number | null;
  intermediateSize: number;
  vocabSize: number;
  attentionBias: boolean;
  mlpBias: boolean;
  tied: boolean;
  rope: 'default' | 'linear' | 'llama3';
  /** `old`: rope_theta, rope_scaling, torch_dtype. `new`: rope_parameters, dtype. */
  spelling: 'old' | 'new';
  stored: 'F32' | 'BF16';
  /** Files; more than one have an index. */
  shards: number;
  /** Leave out the teacher's q, k, v of later layers. */
  stripped: boolean;
  seed: number;
}

export const plainModel: GeneratedModel = {
  family: 'llama',
  layers: 2,
  kvLayers: null,
  group: 1,
  hiddenSize: 32,
  heads: 4,
  kvHeads: 2,
  headDim: null,
  intermediateSize: 40,
  vocabSize: 70,
  attentionBias: false,
  mlpBias: false,
  tied: false,
  rope: 'default',
  spelling: 'old',
  stored: 'F32',
  shards: 1,
  stripped: false,
  seed: 1,
};

/** Uniform in [-1, 1), the same on every machine (mulberry32). */
export function randomStream(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

export function configOf(m: GeneratedModel): Record<string, unknown> {
  const scaling = {
    default: null,
    linear: { rope_type: 'linear', factor: 2.5 },
    llama3: {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 32,
    },
  }[m.rope];
  return {
    model_type: m.kvLayers === null ? m.family : `${m.family}_swiftkv`,
    vocab_size: m.vocabSize,
    hidden_size: m.hiddenSize,
    intermediate_size: m.intermediateSize,
    num_hidden_layers: m.layers,
    num_attention_heads: m.heads,
    num_key_value_heads: m.kvHeads,
    ...(m.headDim === null ? {} : { head_dim: m.headDim }),
    hidden_act: 'silu',
    rms_norm_eps: 1e-5,
    max_position_embeddings: 256,
    tie_word_embeddings: m.tied,
    attention_bias: m.attentionBias,
    mlp_bias: m.mlpBias,
    eos_token_id: 2,
    ...(m.spelling === 'old'
      ? { rope_theta: 5000, rope_scaling: scaling, torch_dtype: m.stored === 'F32' ? 'float32' : 'bfloat16' }
      : {
          rope_parameters: { rope_theta: 5000, rope_type: 'default', ...scaling },
          dtype: m.stored === 'F32' ? 'float32' : 'bfloat16',
        }),
    ...(m.kvLayers === null ? {} : { swiftkv: true, num_key_value_layers: m.kvLayers, key_value_group_size: m.group }),
  };
}

/** Writes config.json and the weights; `dir` is made. */
export async function writeModel(dir: string, m: GeneratedModel): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, 'config.json'), JSON.stringify(configOf(m)));
  const tensors = generateTensors(m);
  if (m.shards === 1) {
    await writeSafetensors(join(dir, 'model.safetensors'), tensors);
    return;
  }
  const weightMap: Record<string, string> = {};
  for (let i = 0; i < m.shards; i++) {
    // Named without "of", as one writer does: only the index knows.
    const file = `model-${String(i + 1).padStart(5, '0')}-${String(m.shards).padStart(5, '0')}.safetensors`;
    const part = tensors.filter((_, index) => index % m.shards === i);
    for (const { name } of part) weightMap[name] = file;
    await writeSafetensors(join(dir, file), part);
  }
  await writeFile(join(dir, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: weightMap }));
}

function generateTensors(m: GeneratedModel): TensorToWrite[] {
  const random = randomStream(m.seed);
  const headDim = m.headDim ?? m.hiddenSize / m.heads;
  const tensors: TensorToWrite[] = [];
  const add = (name: string, shape: number[], scale: number, offset = 0): void => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => offset + scale * random());
    tensors.push({ name, dtype: m.stored, shape, data: m.stored === 'F32' ? bytesOf(values) : toBf16(values) });
  };
  const linear = (module: string, n: number, k: number, bias: boolean): void => {
    add(`${module}.weight`, [n, k], Math.sqrt(3 / k));
    if (bias) add(`${module}.bias`, [n], 0.5);
  };
  const headNorm = (name: string): void => {
    if (m.family === 'qwen3') add(`${name}.weight`, [headDim], 0.3, 1);
  };
  const qkvBias = m.attentionBias || m.family === 'qwen2';
  const attention = (attn: string, suffix: string, parts: string): void => {
    if (parts.includes('q')) headNorm(`${attn}.q_norm${suffix}`);
    if (parts.includes('k')) headNorm(`${attn}.k_norm${suffix}`);
    if (parts.includes('q')) linear(`${attn}.q_proj${suffix}`, m.heads * headDim, m.hiddenSize, qkvBias);
    for (const side of ['k', 'v']) {
      if (parts.includes(side)) {
        linear(`${attn}.${side}_proj${suffix}`, m.kvHeads * headDim, m.hiddenSize, qkvBias);
      }
    }
  };
  const n = m.kvLayers ?? m.layers;
  add('model.embed_tokens.weight', [m.vocabSize, m.hiddenSize], 1);
  for (let l = 0; l < m.layers; l++) {
    const layer = `model.layers.${l}`;
    const attn = `${layer}.self_attn`;
    add(`${layer}.input_layernorm.weight`, [m.hiddenSize], 0.3, 1);
    add(`${layer}.post_attention_layernorm.weight`, [m.hiddenSize], 0.3, 1);
    if (l < n || !m.stripped) attention(attn, '', 'qkv');
    if (l >= n) attention(attn, '_swiftkv', (l - n) % m.group === 0 ? 'qkv' : 'q');
    linear(`${attn}.o_proj`, m.hiddenSize, m.heads * headDim, m.attentionBias);
    for (const side of ['gate', 'up']) {
      linear(`${layer}.mlp.${side}_proj`, m.intermediateSize, m.hiddenSize, m.mlpBias);
    }
    linear(`${layer}.mlp.down_proj`, m.hiddenSize, m.intermediateSize, m.mlpBias);
  }
  if (m.kvLayers !== null) add('model.norm_swiftkv.weight', [m.hiddenSize], 0.3, 1);
  add('model.norm.weight', [m.hiddenSize], 0.3, 1);
  if (!m.tied) linear('lm_head', m.vocabSize, m.hiddenSize, false);
  return tensors;
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer);
}

/** Rounds to nearest even. */
export function toBf16(values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = Uint16Array.from(bits, (u) => (u + 0x7fff + ((u >>> 16) & 1)) >>> 16);
  return new Uint8Array(halves.buffer);
}
