// What a model family is to the rest of lib/model: how its config reads, which tensors it needs, its forward pass.
// A new family is one file with one of these, and one line in architectures.ts.

import type { ModelConfig } from './config.ts';
import type { ConfigReader } from './config-reader.ts';
import type { Forward } from './forward.ts';
import type { WeightTarget } from './weights.ts';

/** Token ids come from two files and are filled in by parse-config.ts, as is the base's folder. */
export type ArchitectureConfig = Omit<ModelConfig, 'bosTokenId' | 'eosTokenIds' | 'base'>;

export interface Architecture {
  /** Values of `model_type` that this family answers to. */
  modelTypes: readonly string[];
  /** Defaults of the special tokens where no file gives any. */
  bosTokenId: number | null;
  eosTokenId: number | null;
  parseConfig(reader: ConfigReader): ArchitectureConfig;
  /** Every weight of the forward pass, in the order of its layers. */
  weights(config: ModelConfig): Iterable<WeightTarget>;
  forward: Forward;
}
