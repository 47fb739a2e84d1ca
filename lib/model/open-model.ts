// A folder as a model: its checkpoint and its config, and for a variant the proof that its base fits.

import { join } from 'node:path';
import { type Checkpoint, configFile, generationConfigFile, openCheckpoint } from '../checkpoint/checkpoint.ts';
import { quote } from '../checkpoint/json.ts';
import { SwiftKVError } from '../errors.ts';
import type { ModelConfig } from './config.ts';
import { parseConfig } from './parse-config.ts';

export interface OpenModel {
  checkpoint: Checkpoint;
  config: ModelConfig;
}

/** Reads and checks everything but the tensors themselves. @throws as openCheckpoint and parseConfig */
export async function openModel(dir: string): Promise<OpenModel> {
  const checkpoint = await openCheckpoint(dir);
  const config = parseConfig(checkpoint.config, checkpoint.generationConfig, filesOf(checkpoint.dir));
  if (checkpoint.base !== null) {
    const base = parseConfig(checkpoint.base.config, null, filesOf(checkpoint.base.dir));
    requireAgreement(config, base, checkpoint);
  }
  return { checkpoint, config };
}

function filesOf(dir: string): { config: string; generation: string } {
  return { config: join(dir, configFile), generation: join(dir, generationConfigFile) };
}

/** Everything that a shared tensor's shape or meaning depends on. */
const sharedFields = [
  'vocabSize',
  'hiddenSize',
  'intermediateSize',
  'numLayers',
  'numHeads',
  'numKvHeads',
  'headDim',
  'rmsNormEps',
  'rope',
  'bias',
  'qkNorm',
  'tieWordEmbeddings',
] as const satisfies readonly (keyof ModelConfig)[];

function requireAgreement(variant: ModelConfig, base: ModelConfig, checkpoint: Checkpoint): void {
  const refuse = (field: string, received: unknown, expected: unknown): never => {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${join(checkpoint.dir, configFile)}: ${field} is ${quote(received)}, but the base ` +
        `${checkpoint.base!.dir} has ${quote(expected)}`,
    );
  };
  const family = variant.modelType.replace(/_swiftkv$/, '');
  if (base.modelType !== family && base.modelType !== variant.modelType) {
    refuse('model_type', variant.modelType, base.modelType);
  }
  for (const field of sharedFields) {
    if (JSON.stringify(variant[field]) !== JSON.stringify(base[field])) refuse(field, variant[field], base[field]);
  }
}
