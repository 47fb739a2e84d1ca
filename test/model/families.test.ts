// Families beside Llama: what their configuration classes assume, and what of them is refused by name.

import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../lib/checkpoint/json.ts';
import { parseConfig } from '../../lib/model/parse-config.ts';

const shared = { hiddenSize: 4096, numLayers: 32, numHeads: 32, headDim: 128, rmsNormEps: 1e-6, groupSize: 1 };
const qwen = {
  ...shared,
  vocabSize: 151936,
  intermediateSize: 22016,
  numKvHeads: 32,
  maxPositions: 32768,
  bosTokenId: null,
  eosTokenIds: [],
};
const mistral = {
  ...shared,
  vocabSize: 32000,
  intermediateSize: 14336,
  numKvHeads: 8,
  maxPositions: 131072,
  bosTokenId: 1,
  eosTokenIds: [2],
  bias: { q: false, k: false, v: false, o: false, mlp: false },
};

describe('defaults are those of the configuration class', () => {
  it.each<[string, object]>([
    ['qwen2', { ...qwen, bias: { q: true, k: true, v: true, o: false, mlp: false } }],
    ['qwen3', { ...qwen, bias: mistral.bias, qkNorm: true }],
    ['mistral', mistral],
  ])('%s', (modelType, expected) => {
    const rope = { theta: 10000, scaling: null };
    expect(parseConfig({ model_type: modelType })).toMatchObject({ modelType, ...expected, rope });
    const student = parseConfig({ model_type: `${modelType}_swiftkv`, num_key_value_layers: 16 });
    expect(student).toMatchObject({ ...expected, rope, numKvLayers: 16 });
  });

  it('count null KV heads as all heads, and missing ones as the class does', () => {
    const heads = { model_type: 'qwen2', num_attention_heads: 64 };
    expect(parseConfig({ ...heads, num_key_value_heads: null }).numKvHeads).toBe(64);
    expect(parseConfig(heads).numKvHeads).toBe(32);
  });
});

it('Qwen3’s head width is 128 unless it says otherwise, and its biases are q, k, v and o', () => {
  const small = { model_type: 'qwen3', hidden_size: 1024, num_attention_heads: 16, num_key_value_heads: 8 };
  expect(parseConfig(small).headDim).toBe(128);
  expect(parseConfig({ ...small, head_dim: 64 }).headDim).toBe(64);
  const { bias } = parseConfig({ ...small, attention_bias: true });
  expect(bias).toEqual({ q: true, k: true, v: true, o: true, mlp: false });
});

it('a head width that is not d / Hq is taken from Mistral’s config', () => {
  const nemo = { model_type: 'mistral', hidden_size: 5120, head_dim: 128, sliding_window: null };
  expect(parseConfig(nemo)).toMatchObject({ headDim: 128, numHeads: 32, numKvHeads: 8 });
  expect(parseConfig({ ...nemo, head_dim: null }).headDim).toBe(160);
});

describe('a sliding window', () => {
  it.each<[string, JsonObject]>([
    ['qwen2', { sliding_window: 4096 }],
    ['qwen2', { sliding_window: 4096, use_sliding_window: false, max_window_layers: 0 }],
    ['qwen3', { sliding_window: 4096, use_sliding_window: false, max_window_layers: 28 }],
    ['mistral', { sliding_window: null }],
    ['mistral', {}],
    ['qwen2_swiftkv', { layer_types: ['full_attention', 'full_attention'], num_hidden_layers: 2 }],
  ])('that is off is accepted, %s %j', (model_type, fields) => {
    expect(() => parseConfig({ model_type, ...fields })).not.toThrow();
  });

  it.each<[string, JsonObject, RegExp]>([
    ['qwen2', { use_sliding_window: true }, /use_sliding_window is true: sliding-window attention is not supported/],
    ['qwen2_swiftkv', { use_sliding_window: true, sliding_window: 128, max_window_layers: 28 }, /use_sliding_window/],
    ['qwen3_swiftkv', { use_sliding_window: true, sliding_window: null }, /use_sliding_window is true/],
    ['mistral', { sliding_window: 4096 }, /sliding_window is 4096.*expected null/],
    ['mistral_swiftkv', { sliding_window: 4096, use_sliding_window: false }, /sliding_window is 4096/],
    ['qwen2', { layer_types: ['full_attention', 'sliding_attention'] }, /layer_types.*only full_attention/],
  ])('that is on is refused by name, %s %j', (model_type, fields, message) => {
    expect(() => parseConfig({ model_type, ...fields })).toThrow(message);
    expect(() => parseConfig({ model_type, ...fields })).toThrow(
      expect.objectContaining({ code: 'ERR_MODEL_UNSUPPORTED' }),
    );
  });
});

describe('what a family has and swiftkv does not', () => {
  it.each<[JsonObject, RegExp]>([
    [{ model_type: 'qwen2_moe' }, /"qwen2_moe": mixture-of-experts layers \(MoE\) are not supported; expected one of/],
    [{ model_type: 'qwen3_moe' }, /"qwen3_moe": mixture-of-experts/],
    [{ model_type: 'qwen3', rope_scaling: { rope_type: 'yarn', factor: 4 } }, /rope_type is "yarn"/],
    [{ model_type: 'qwen3', layer_types: ['linear_attention'] }, /layer_types/],
    [{ model_type: 'mistral3' }, /model_type is "mistral3": expected one of/],
    [{ model_type: 'mistral', rope_parameters: { rope_type: 'yarn', rope_theta: 1e6, factor: 16 } }, /"yarn"/],
    [{ model_type: 'mixtral' }, /"mixtral": mixture-of-experts/],
    [{ model_type: 'qwen2_vl' }, /model_type is "qwen2_vl": expected one of llama, llama_swiftkv, qwen2/],
    [{ model_type: 'qwen2', num_experts: 8 }, /num_experts is 8: mixture-of-experts/],
    [
      { model_type: 'qwen2', rope_scaling: { type: 'yarn', factor: 4 } },
      /rope_scaling\.type is "yarn".*default, linear/,
    ],
    [{ model_type: 'qwen2', rope_scaling: { rope_type: 'dynamic', factor: 4 } }, /rope_type is "dynamic"/],
    [{ model_type: 'qwen2', rope_scaling: { type: 'mrope' } }, /type is "mrope"/],
    [{ model_type: 'qwen2', hidden_act: 'gelu_pytorch_tanh' }, /hidden_act.*expected silu/],
  ])('is refused by name, %j', (json, message) => {
    expect(() => parseConfig(json)).toThrow(message);
    expect(() => parseConfig(json)).toThrow(expect.objectContaining({ code: 'ERR_MODEL_UNSUPPORTED' }));
  });

  it.each<[JsonObject, string]>([
    [{ model_type: 'qwen2', use_sliding_window: 'no' }, 'use_sliding_window'],
    [{ model_type: 'qwen2', use_sliding_window: null }, 'use_sliding_window'],
    [{ model_type: 'qwen2', layer_types: 'full_attention' }, 'layer_types'],
    [{ model_type: 'qwen3', head_dim: null }, 'head_dim'],
    [{ model_type: 'qwen3', attention_bias: 'yes' }, 'attention_bias'],
    [{ model_type: 'mistral', num_key_value_heads: 5 }, 'num_key_value_heads'],
    [{ model_type: 'mistral', head_dim: 7 }, 'head_dim'],
    [{ model_type: 'mistral', rms_norm_eps: null }, 'rms_norm_eps'],
    [{ model_type: 'qwen2', num_attention_heads: 28 }, 'num_key_value_heads'],
    [{ model_type: 'qwen2', num_key_value_heads: 0 }, 'num_key_value_heads'],
    [{ model_type: 'qwen2', hidden_size: 100 }, 'head_dim'],
    [{ model_type: 'qwen2_swiftkv', num_key_value_layers: 33 }, 'num_key_value_layers'],
    [{ model_type: 'qwen2_swiftkv', num_key_value_layers: 16, key_value_group_size: 3 }, 'key_value_group_size'],
  ])('or absurd, %j names %s', (json, field) => {
    expect(() => parseConfig(json)).toThrow(expect.objectContaining({ code: 'ERR_MODEL_INVALID' }));
    expect(() => parseConfig(json)).toThrow(new RegExp(`config\\.json: ${field}: expected .* but`));
  });
});
