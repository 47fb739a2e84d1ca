// Configs in every spelling that is in use, and values that would lead to wrong numbers if they were let through.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { JsonObject } from '../../lib/checkpoint/json.ts';
import { cacheOfLayer, numDistinctCaches } from '../../lib/model/config.ts';
import { modelMode, parseConfig } from '../../lib/model/parse-config.ts';

const llama: JsonObject = {
  model_type: 'llama',
  vocab_size: 256,
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  max_position_embeddings: 512,
};

/** As the public FP8 checkpoints have it, with some fields changed. */
function fp8Config(fields: JsonObject, weights: JsonObject = {}): { quantization_config: JsonObject } {
  const scheme = { num_bits: 8, type: 'float', symmetric: true, dynamic: false, strategy: 'channel', ...weights };
  return {
    quantization_config: {
      quant_method: 'compressed-tensors',
      format: 'float-quantized',
      quantization_status: 'compressed',
      ignore: ['lm_head'],
      kv_cache_scheme: null,
      config_groups: { group_0: { targets: ['Linear'], weights: scheme, output_activations: null } },
      ...fields,
    },
  };
}
const swiftkv: JsonObject = { ...llama, model_type: 'llama_swiftkv', num_key_value_layers: 3, key_value_group_size: 3 };
const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

describe('defaults', () => {
  it('are those of the configuration class', () => {
    expect(parseConfig({ model_type: 'llama' })).toEqual({
      modelType: 'llama',
      vocabSize: 32000,
      hiddenSize: 4096,
      intermediateSize: 11008,
      numLayers: 32,
      numHeads: 32,
      numKvHeads: 32,
      headDim: 128,
      rmsNormEps: 1e-6,
      rope: { theta: 10000, scaling: null },
      bias: { q: false, k: false, v: false, o: false, mlp: false },
      qkNorm: false,
      tieWordEmbeddings: false,
      maxPositions: 2048,
      bosTokenId: 1,
      eosTokenIds: [2],
      numKvLayers: 32,
      groupSize: 1,
      base: null,
    });
  });

  it.each([null, 0, undefined])('take %s for n as all layers and for g as 1', (value) => {
    const config = parseConfig({ ...swiftkv, num_key_value_layers: value, key_value_group_size: value });
    expect(config).toMatchObject({ numKvLayers: 6, groupSize: 1 });
  });

  it('give a head width of its own precedence over d / Hq', () => {
    expect(parseConfig({ ...llama, head_dim: 24 }).headDim).toBe(24);
    expect(parseConfig({ ...llama, head_dim: null }).headDim).toBe(8);
  });

  it('bias q, k, v and o together, the MLP apart', () => {
    expect(parseConfig({ ...llama, attention_bias: true }).bias).toEqual({
      q: true,
      k: true,
      v: true,
      o: true,
      mlp: false,
    });
    expect(parseConfig({ ...llama, mlp_bias: true }).bias.mlp).toBe(true);
  });
});

describe('both spellings of rope', () => {
  const scaling = { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositions: 64 };

  it.each<[string, JsonObject, unknown]>([
    ['rope_theta and rope_scaling', { rope_theta: 5000, rope_scaling: llama3 }, { theta: 5000, scaling }],
    ['rope_parameters', { rope_parameters: { rope_theta: 5000, ...llama3 } }, { theta: 5000, scaling }],
    ['rope_parameters with theta outside', { rope_theta: 5000, rope_parameters: llama3 }, { theta: 5000, scaling }],
    [
      'the default type',
      { rope_parameters: { rope_theta: 5000, rope_type: 'default' } },
      { theta: 5000, scaling: null },
    ],
    [
      'the older key "type"',
      { rope_scaling: { type: 'linear', factor: 4 } },
      { theta: 10000, scaling: { type: 'linear', factor: 4 } },
    ],
    [
      'both at once, agreeing',
      { rope_theta: 5000, rope_scaling: llama3, rope_parameters: { rope_theta: 5000, ...llama3 } },
      { theta: 5000, scaling },
    ],
  ])('%s', (_, fields, rope) => {
    expect(parseConfig({ ...llama, ...fields }).rope).toEqual(rope);
  });

  it.each<[JsonObject, RegExp]>([
    [{ rope_theta: 1, rope_parameters: { rope_theta: 2 } }, /rope_theta/],
    [{ rope_scaling: { type: 'linear', factor: 4 }, rope_parameters: llama3 }, /rope_scaling/],
    [{ rope_scaling: { ...llama3, type: 'linear' } }, /rope_scaling\.type/],
    [{ rope_scaling: { ...llama3, factor: 0 } }, /rope_scaling\.factor/],
    [{ rope_scaling: { ...llama3, high_freq_factor: 1 } }, /high_freq_factor/],
    [{ rope_scaling: { ...llama3, original_max_position_embeddings: undefined } }, /original_max.*missing/],
    [{ rope_scaling: 'llama3' }, /rope_scaling/],
    [{ rope_theta: -1 }, /rope_theta/],
    [{ rope_theta: null }, /rope_theta/],
  ])('refuses %j', (fields, message) => {
    expect(() => parseConfig({ ...llama, ...fields })).toThrow(message);
    expect(() => parseConfig({ ...llama, ...fields })).toThrow(expect.objectContaining({ code: 'ERR_MODEL_INVALID' }));
  });
});

describe('what swiftkv does not have is refused by name', () => {
  it.each<[JsonObject, RegExp]>([
    [{ model_type: 'gpt2' }, /model_type is "gpt2".*llama, llama_swiftkv/],
    [{ model_type: 'deepseek_v2_swiftkv' }, /MLA/],
    [{ kv_lora_rank: 512 }, /kv_lora_rank.*MLA/],
    [{ rope_scaling: { rope_type: 'yarn', factor: 4 } }, /rope_type is "yarn".*llama3/],
    [{ rope_scaling: { type: 'dynamic', factor: 4 } }, /type is "dynamic"/],
    [{ rope_parameters: { rope_theta: 1e4, rope_type: 'longrope' } }, /longrope/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
    [{ hidden_act: 'gelu' }, /hidden_act is "gelu": expected silu/],
    [{ sliding_window: 4096 }, /sliding-window/],
    [{ sliding_window: 4096, use_sliding_window: true }, /sliding-window/],
    [{ layer_types: ['full_attention', 'sliding_attention'] }, /layer_types/],
    [
      { quantization_config: { quant_method: 'fp8' } },
      /quant_method is "fp8": this layout of FP8 weights.*compressed-tensors/,
    ],
    [{ quantization_config: { quant_method: 'modelopt' } }, /this layout of FP8 weights/],
    [fp8Config({ format: 'pack-quantized' }), /quantization_config\.format is "pack-quantized"/],
    [fp8Config({ quantization_status: 'frozen' }), /quantization_status is "frozen": expected compressed/],
    [fp8Config({}, { strategy: 'block' }), /config_groups\.group_0\.weights\.strategy is "block".*channel or tensor/],
    [fp8Config({}, { type: 'int' }), /weights\.type is "int"/],
    [fp8Config({}, { num_bits: 4 }), /weights\.num_bits is 4/],
    [fp8Config({}, { symmetric: false }), /weights\.symmetric is false/],
    [fp8Config({}, { dynamic: true }), /weights\.dynamic is true/],
    [{ quantization_config: { quant_method: 'gptq' } }, /"gptq".*not supported/],
    [{ quantization_config: { quant_method: 'bitsandbytes' } }, /"bitsandbytes".*not supported/],
  ])('%j', (fields, message) => {
    expect(() => parseConfig({ ...llama, ...fields })).toThrow(message);
    expect(() => parseConfig({ ...llama, ...fields })).toThrow(
      expect.objectContaining({ code: 'ERR_MODEL_UNSUPPORTED' }),
    );
  });

  it('but a sliding window that is off is no sliding window', () => {
    expect(() => parseConfig({ ...llama, sliding_window: 4096, use_sliding_window: false })).not.toThrow();
    expect(() => parseConfig({ ...llama, sliding_window: null })).not.toThrow();
  });

  it('and a cache that is quantized is no quantized weight', () => {
    const scheme = { quant_method: 'compressed-tensors', config_groups: {}, kv_cache_scheme: { num_bits: 8 } };
    expect(() => parseConfig({ ...llama, quantization_config: scheme })).not.toThrow();
  });
});

describe('FP8 weights of compressed-tensors', () => {
  it.each([{}, { strategy: 'tensor' }])('are accepted with one scale per output or per tensor, %j', (weights) => {
    expect(() => parseConfig({ ...llama, ...fp8Config({}, weights) })).not.toThrow();
  });

  it('may quantize activations only, or stand under the old name', () => {
    const { quantization_config: scheme } = fp8Config({});
    expect(() => parseConfig({ ...llama, compression_config: scheme })).not.toThrow();
    const onlyActivations = { ...scheme, config_groups: { group_0: { weights: null } } };
    expect(() => parseConfig({ ...llama, quantization_config: onlyActivations })).not.toThrow();
  });

  it('are refused when the groups are not what the format says', () => {
    const { quantization_config: scheme } = fp8Config({});
    for (const groups of [[], 'x', { group_0: 7 }, { group_0: { weights: { num_bits: 'eight', type: 'float' } } }]) {
      expect(() => parseConfig({ ...llama, quantization_config: { ...scheme, config_groups: groups } })).toThrow(
        expect.objectContaining({ code: 'ERR_MODEL_INVALID' }),
      );
    }
  });
});

describe('absurd or contradictory values', () => {
  it.each<[string, JsonObject]>([
    ['vocab_size', { vocab_size: 0 }],
    ['vocab_size', { vocab_size: null }],
    ['vocab_size', { vocab_size: '256' }],
    ['hidden_size', { hidden_size: -64 }],
    ['hidden_size', { hidden_size: 64.5 }],
    ['hidden_size', { hidden_size: 2 ** 31 }],
    ['num_hidden_layers', { num_hidden_layers: 0 }],
    ['num_hidden_layers', { num_hidden_layers: 1e9 }],
    ['num_key_value_heads', { num_key_value_heads: 3 }],
    ['num_key_value_heads', { num_key_value_heads: 16 }],
    ['head_dim', { head_dim: 7 }],
    ['head_dim', { hidden_size: 72 }], // 72 / 8 = 9
    ['head_dim', { hidden_size: 65 }],
    ['rms_norm_eps', { rms_norm_eps: 0 }],
    ['rms_norm_eps', { rms_norm_eps: '1e-5' }],
    ['tie_word_embeddings', { tie_word_embeddings: 'false' }],
    ['attention_bias', { attention_bias: 1 }],
    ['max_position_embeddings', { max_position_embeddings: 0 }],
    ['eos_token_id', { eos_token_id: [1, -2] }],
    ['eos_token_id', { eos_token_id: '2' }],
    ['model_type', { model_type: undefined }],
    ['num_key_value_layers', { ...swiftkv, num_key_value_layers: 7 }],
    ['num_key_value_layers', { ...swiftkv, num_key_value_layers: -1 }],
    ['num_key_value_layers', { ...swiftkv, num_key_value_layers: 2.5 }],
    ['key_value_group_size', { ...swiftkv, key_value_group_size: 2 }],
    ['key_value_group_size', { ...swiftkv, key_value_group_size: 6 }],
    ['swiftkv', { ...swiftkv, swiftkv: 'yes' }],
  ])('%s: %j', (field, fields) => {
    const parse = () => parseConfig({ ...llama, ...fields });
    expect(parse).toThrow(expect.objectContaining({ code: 'ERR_MODEL_INVALID' }));
    expect(parse).toThrow(new RegExp(`config\\.json: ${field}: expected .* but`));
  });
});

describe('SwiftKV', () => {
  it('counts distinct caches: n + (L - n) / g', () => {
    const config = parseConfig(swiftkv);
    expect(numDistinctCaches(config)).toBe(4);
    expect([0, 1, 2, 3, 4, 5].map((l) => cacheOfLayer(config, l))).toEqual([0, 1, 2, 3, 3, 3]);
    expect(modelMode(swiftkv)).toBe('student');
  });

  it('is the plain model when the file says false, its numbers still checked', () => {
    const teacher = { ...swiftkv, swiftkv: false };
    expect(parseConfig(teacher)).toMatchObject({ numKvLayers: 6, groupSize: 1 });
    expect(modelMode(teacher)).toBe('teacher');
    expect(() => parseConfig({ ...teacher, key_value_group_size: 2 })).toThrow(/key_value_group_size/);
  });
});

describe('tokens that end an answer', () => {
  it.each<[unknown, unknown, number[]]>([
    [2, undefined, [2]],
    [[128001, 128008], undefined, [128001, 128008]],
    [1, [1, 6], [1, 6]],
    [undefined, [6], [6]],
    [undefined, undefined, [2]],
    [null, undefined, []],
    [7, 3, [3, 7]],
  ])('config %j and generation %j give %j', (config, generation, expected) => {
    const parsed = parseConfig(
      { ...llama, vocab_size: 128_256, eos_token_id: config },
      generation === undefined ? null : { eos_token_id: generation },
    );
    expect(parsed.eosTokenIds).toEqual(expected);
  });
});

it('reads every config of the golden data', async () => {
  for (const name of [
    'llama_plain',
    'llama_swiftkv_g1',
    'llama_swiftkv_g2',
    'llama_swiftkv_g4',
    'llama_swiftkv_hd64',
    'qwen2_swiftkv_g2',
    'qwen2_plain',
    'qwen3_plain',
    'mistral_plain',
  ]) {
    const path = fileURLToPath(new URL(`../golden/data/${name}`, import.meta.url));
    const config = parseConfig(JSON.parse(await readFile(`${path}/config.json`, 'utf8')));
    const expected = JSON.parse(await readFile(`${path}.expected.json`, 'utf8'));
    expect(numDistinctCaches(config)).toBe(expected.num_kv_caches);
  }
});
