// Mistral without a sliding window, and its SwiftKV form: Llama's forward pass with defaults of its own, no biases.

import type { Architecture } from './architecture.ts';
import { parseDecoderConfig } from './decoder-config.ts';
import { llama } from './llama.ts';
import { decoderWeights } from './weights.ts';

export const mistral: Architecture = {
  modelTypes: ['mistral', 'mistral_swiftkv'],
  bosTokenId: 1,
  eosTokenId: 2,
  parseConfig(r) {
    // This family has no switch: a number is a window whatever use_sliding_window says. A missing field counts as none,
    // as in the files of the models that have none; the configuration class would assume 4096 and always writes it.
    if (r.has('sliding_window')) {
      r.unsupported('sliding_window', 'sliding-window attention is not supported; expected null or no such field');
    }
    return parseDecoderConfig(
      r,
      {
        vocabSize: 32000,
        hiddenSize: 4096,
        intermediateSize: 14336,
        numLayers: 32,
        numHeads: 32,
        numKvHeads: 8,
        headDim: null,
        rmsNormEps: 1e-6,
        ropeTheta: 10000,
        maxPositions: 131072,
        useSlidingWindow: true,
      },
      { bias: { q: false, k: false, v: false, o: false, mlp: false } },
    );
  },
  weights: decoderWeights,
  forward: llama.forward,
};
