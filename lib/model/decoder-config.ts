// The config fields that Llama-like decoders share, with the checks that hold for all of them.

import { quote } from '../checkpoint/json.ts';
import type { ArchitectureConfig } from './architecture.ts';
import type { ModelConfig, RopeScaling } from './config.ts';
import type { ConfigReader } from './config-reader.ts';

/** What a family's configuration class assumes when config.json is silent. */
export interface DecoderDefaults {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  /** null: as many as query heads. */
  numKvHeads: number | null;
  /** null: hidden_size / num_attention_heads. */
  headDim: number | null;
  rmsNormEps: number;
  ropeTheta: number;
  maxPositions: number;
  /** Whether a number in sliding_window means a window where use_sliding_window is not given. */
  useSlidingWindow: boolean;
}

/** Far beyond any model; keeps a hostile config from making long lists. */
const maxLayers = 10_000;

/** Reads every field but the biases, norms of heads and token ids, which differ by family. */
export function parseDecoderConfig(
  r: ConfigReader,
  defaults: DecoderDefaults,
  { bias, qkNorm = false }: { bias: ModelConfig['bias']; qkNorm?: boolean },
): ArchitectureConfig {
  refuseWhatIsMissing(r, defaults);
  const hiddenSize = r.integer('hidden_size', defaults.hiddenSize);
  const numLayers = r.integer('num_hidden_layers', defaults.numLayers, { min: 1, max: maxLayers });
  const numHeads = r.integer('num_attention_heads', defaults.numHeads);
  const numKvHeads = parseKvHeads(r, defaults.numKvHeads, numHeads);
  if (numHeads % numKvHeads !== 0) {
    r.invalid('num_key_value_heads', `a divisor of num_attention_heads (${numHeads})`);
  }
  return {
    modelType: r.string('model_type'),
    vocabSize: r.integer('vocab_size', defaults.vocabSize),
    hiddenSize,
    intermediateSize: r.integer('intermediate_size', defaults.intermediateSize),
    numLayers,
    numHeads,
    numKvHeads,
    headDim: parseHeadDim(r, defaults.headDim, hiddenSize, numHeads),
    rmsNormEps: r.number('rms_norm_eps', defaults.rmsNormEps, { min: 0, above: true, max: 1 }),
    rope: parseRope(r, defaults.ropeTheta),
    bias,
    qkNorm,
    tieWordEmbeddings: r.boolean('tie_word_embeddings', false),
    maxPositions: r.integer('max_position_embeddings', defaults.maxPositions),
    ...parseSwiftkv(r, numLayers),
  };
}

/** null in the file means as many as query heads in every family; a missing field takes the family's default. */
function parseKvHeads(r: ConfigReader, fallback: number | null, numHeads: number): number {
  const isMissing = r.json['num_key_value_heads'] === undefined;
  return (isMissing ? fallback : r.optionalInteger('num_key_value_heads')) ?? numHeads;
}

function parseHeadDim(r: ConfigReader, fallback: number | null, hiddenSize: number, numHeads: number): number {
  const explicit = fallback === null ? r.optionalInteger('head_dim') : r.integer('head_dim', fallback);
  if (explicit === null && hiddenSize % numHeads !== 0) {
    r.invalid(
      'head_dim',
      `head_dim, since hidden_size (${hiddenSize}) is no multiple of num_attention_heads (${numHeads}),`,
    );
  }
  const headDim = explicit ?? hiddenSize / numHeads;
  if (headDim % 2 !== 0) {
    // Rotation pairs dimension i with i + hd/2.
    r.invalid('head_dim', `an even head width (hidden_size / num_attention_heads is ${hiddenSize / numHeads})`);
  }
  return headDim;
}

/** n and g. Teacher mode (`"swiftkv": false`) is the plain model: n = L. */
function parseSwiftkv(r: ConfigReader, numLayers: number): { numKvLayers: number; groupSize: number } {
  if (!isSwiftkvType(r.string('model_type'))) return { numKvLayers: numLayers, groupSize: 1 };
  // 0 counts as null: the reference classes test for truth.
  const numKvLayers = r.optionalInteger('num_key_value_layers', { min: 0 }) || numLayers;
  const groupSize = r.optionalInteger('key_value_group_size', { min: 0 }) || 1;
  if (numKvLayers > numLayers) r.invalid('num_key_value_layers', `at most num_hidden_layers (${numLayers})`);
  if ((numLayers - numKvLayers) % groupSize !== 0) {
    r.invalid(
      'key_value_group_size',
      `a divisor of num_hidden_layers - num_key_value_layers (${numLayers} - ${numKvLayers})`,
    );
  }
  return r.boolean('swiftkv', true) ? { numKvLayers, groupSize } : { numKvLayers: numLayers, groupSize: 1 };
}

export function isSwiftkvType(modelType: string): boolean {
  return modelType.endsWith('_swiftkv');
}

/** Below and above, an f32 frequency would be infinite or 0. */
const thetaRange = { min: 1, max: 1e30 };

/** Reads rope_theta + rope_scaling, or the newer rope_parameters; both at once must agree. */
function parseRope(r: ConfigReader, defaultTheta: number): ModelConfig['rope'] {
  const parameters = r.object('rope_parameters');
  const scaling = r.object('rope_scaling');
  if (parameters === null) {
    return { theta: r.number('rope_theta', defaultTheta, thetaRange), scaling: scaling && parseScaling(scaling) };
  }
  const theta = parameters.number('rope_theta', r.number('rope_theta', defaultTheta, thetaRange), thetaRange);
  if (r.has('rope_theta') && r.number('rope_theta') !== theta) {
    r.invalid('rope_theta', `the same as rope_parameters.rope_theta (${theta})`);
  }
  const parsed = parseScaling(parameters);
  if (scaling !== null && JSON.stringify(parseScaling(scaling)) !== JSON.stringify(parsed)) {
    r.invalid('rope_scaling', 'the same scaling as in rope_parameters');
  }
  return { theta, scaling: parsed };
}

function parseScaling(r: ConfigReader): RopeScaling | null {
  if (r.has('rope_type') && r.has('type') && r.json['rope_type'] !== r.json['type']) {
    r.invalid('type', `the same as ${r.prefix}rope_type (${quote(r.json['rope_type'])})`);
  }
  const field = r.has('rope_type') || !r.has('type') ? 'rope_type' : 'type';
  const type = r.string(field, 'default');
  if (r.has('partial_rotary_factor') && r.number('partial_rotary_factor') !== 1) {
    r.unsupported('partial_rotary_factor', 'partial rotary embeddings are not supported');
  }
  if (type === 'default') return null;
  if (type !== 'linear' && type !== 'llama3') {
    r.unsupported(field, `expected one of the rope types default, linear, llama3`);
  }
  const factor = r.number('factor', undefined, { min: 1 });
  if (type === 'linear') return { type, factor };
  const lowFreqFactor = r.number('low_freq_factor');
  const highFreqFactor = r.number('high_freq_factor');
  // The middle band divides by their difference.
  if (highFreqFactor <= lowFreqFactor) r.invalid('high_freq_factor', `more than low_freq_factor (${lowFreqFactor})`);
  const originalMaxPositions = r.integer('original_max_position_embeddings');
  return { type, factor, lowFreqFactor, highFreqFactor, originalMaxPositions };
}

/** Features that would change the numbers and that we do not have are refused by name, never ignored. */
function refuseWhatIsMissing(r: ConfigReader, defaults: DecoderDefaults): void {
  if (r.string('hidden_act', 'silu') !== 'silu') r.unsupported('hidden_act', 'expected silu');
  if (r.has('kv_lora_rank')) r.unsupported('kv_lora_rank', 'multi-head latent attention (MLA) is not supported');
  if (r.has('partial_rotary_factor') && r.number('partial_rotary_factor') !== 1) {
    r.unsupported('partial_rotary_factor', 'partial rotary embeddings are not supported');
  }
  for (const field of ['num_experts', 'num_local_experts', 'n_routed_experts']) {
    if (r.has(field) && r.json[field] !== 0) r.unsupported(field, 'mixture-of-experts layers (MoE) are not supported');
  }
  // A number in sliding_window means nothing where use_sliding_window is off.
  const hasWindow = r.boolean('use_sliding_window', defaults.useSlidingWindow);
  for (const field of ['use_sliding_window', 'sliding_window']) {
    if (hasWindow && r.has(field)) r.unsupported(field, 'sliding-window attention is not supported');
  }
  if (!r.has('layer_types')) return;
  const types = r.json['layer_types'];
  if (!Array.isArray(types)) r.invalid('layer_types', 'a list with the type of each layer');
  if (types.some((type) => type !== 'full_attention')) {
    r.unsupported('layer_types', 'only full_attention layers are supported');
  }
}
