// What a model in training consists of, as data: which weights, which of them are trained, and the programs. Nothing is
// read or allocated, so that it can be counted before.

import type { ModelConfig } from '../model/config.ts';
import { blockTokens } from '../model/kv-cache.ts';
import { decoderWeights, type WeightTarget } from '../model/weights.ts';
import type { BatchCapacity } from '../native/binding.ts';
import type { TrainingModelOptions } from './model.ts';
import { distillWeights, isSwiftKVWeight, layOut, type Parameters } from './parameters.ts';
import { distillStep, type MicroStep, trainStep } from './programs.ts';

export interface TrainingPlan {
  targets: readonly WeightTarget[];
  parameters: Parameters;
  capacity: BatchCapacity;
  /** Of the KV pool. */
  numBlocks: number;
  microStep: MicroStep;
  /** Losses alone. */
  evaluation: MicroStep;
}

/** @throws ERR_UNSUPPORTED for a family that cannot be trained; ERR_INVALID_ARGUMENT to distil a plain model */
export function planTraining(config: ModelConfig, options: TrainingModelOptions): TrainingPlan {
  const { task, maxRows, maxSeqs } = options;
  const targets = [...(task === 'distill' ? distillWeights(config) : decoderWeights(config))];
  const parameters = layOut(targets, (key) => task === 'train' || isSwiftKVWeight(config, key));
  return {
    targets,
    parameters,
    capacity: capacityOf(config, options),
    numBlocks: Math.ceil(maxRows / blockTokens) + maxSeqs,
    microStep: emitMicroStep(config, parameters, options, true),
    evaluation: emitMicroStep(config, parameters, options, false),
  };
}

function emitMicroStep(
  config: ModelConfig,
  { trained }: Parameters,
  o: TrainingModelOptions,
  gradients: boolean,
): MicroStep {
  const { dtype, recompute, taps = [] } = o;
  const common = { config, dtype, trained, recompute, taps, gradients };
  if (o.task === 'train') return trainStep(common);
  const { temperature = 2, hiddenLossLayer = -2 } = o;
  // -1 is the output of the final norm, -2 the input of the last layer.
  const hiddenLayer =
    hiddenLossLayer === null || hiddenLossLayer >= 0 ? hiddenLossLayer : config.numLayers + 1 + hiddenLossLayer;
  return distillStep({ ...common, temperature, hiddenLayer });
}

function capacityOf(config: ModelConfig, { maxRows, maxSeqs, maxLength }: TrainingModelOptions): BatchCapacity {
  return {
    maxRows,
    maxSeqs,
    maxLogitRows: 1,
    maxBlocksPerSeq: Math.ceil(maxLength / blockTokens),
    numLayers: config.numLayers,
    vocabSize: config.vocabSize,
    maxTopLogprobs: 1,
    maxCopies: 1,
  };
}
