// What a forward pass is: a function that emits a model's ops into a builder.

import type { ModelConfig } from './config.ts';
import type { ProgramBuilder } from './program-builder.ts';

/** Type of the activations that enter matrix products; the residual stream, gate_up and the logits are f32. */
export type ComputeDType = 'f32' | 'bf16';

export interface ForwardOptions {
  config: ModelConfig;
  dtype: ComputeDType;
  /** Quantize the rows that enter the layers' matrix products to FP8; their weights must be FP8. */
  fp8Activations: boolean;
  /** Emit `sample` after the head. */
  sample: boolean;
}

/** Must name one output `logits`: [R, vocabSize] f32. */
export type Forward = (builder: ProgramBuilder, options: ForwardOptions) => void;
