// Qwen3 and its SwiftKV form: Llama's forward pass with an RMS norm of each head of q and k before its rotation.
//
// No SwiftKV checkpoint of this family is published; the names are those of the others by analogy. Later layer l has
// `model.layers.{l}.self_attn.q_norm_swiftkv.weight` [head_dim] beside q_proj_swiftkv; a leader also has
// `k_norm_swiftkv.weight` [head_dim] beside k_proj_swiftkv and v_proj_swiftkv. The keys that a group's layers share are
// normed once, with their leader's weights.

import type { Architecture } from './architecture.ts';
import { parseDecoderConfig } from './decoder-config.ts';
import { llama } from './llama.ts';
import { decoderWeights } from './weights.ts';

export const qwen3: Architecture = {
  modelTypes: ['qwen3', 'qwen3_swiftkv'],
  bosTokenId: null,
  eosTokenId: null,
  parseConfig(r) {
    const attention = r.boolean('attention_bias', false);
    return parseDecoderConfig(
      r,
      {
        vocabSize: 151936,
        hiddenSize: 4096,
        intermediateSize: 22016,
        numLayers: 32,
        numHeads: 32,
        numKvHeads: 32,
        headDim: 128, // not hidden_size / num_attention_heads, which the smaller models differ from
        rmsNormEps: 1e-6,
        ropeTheta: 10000,
        maxPositions: 32768,
        useSlidingWindow: false,
      },
      { bias: { q: attention, k: attention, v: attention, o: attention, mlp: false }, qkNorm: true },
    );
  },
  weights: decoderWeights,
  forward: llama.forward,
};
