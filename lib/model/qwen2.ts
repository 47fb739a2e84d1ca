// Qwen2, Qwen2.5 and their SwiftKV form: Llama's forward pass with biases on q, k and v, never on o.
// Biases of SwiftKV's projections stand beside their weights: `q_proj_swiftkv.bias` and so on.

import type { Architecture } from './architecture.ts';
import { parseDecoderConfig } from './decoder-config.ts';
import { llama } from './llama.ts';
import { decoderWeights } from './weights.ts';

export const qwen2: Architecture = {
  modelTypes: ['qwen2', 'qwen2_swiftkv'],
  bosTokenId: null,
  eosTokenId: null,
  parseConfig: (r) =>
    parseDecoderConfig(
      r,
      {
        vocabSize: 151936,
        hiddenSize: 4096,
        intermediateSize: 22016,
        numLayers: 32,
        numHeads: 32,
        numKvHeads: 32,
        headDim: null,
        rmsNormEps: 1e-6,
        ropeTheta: 10000,
        maxPositions: 32768,
        useSlidingWindow: false,
      },
      { bias: { q: true, k: true, v: true, o: false, mlp: false } },
    ),
  weights: decoderWeights,
  forward: llama.forward,
};
