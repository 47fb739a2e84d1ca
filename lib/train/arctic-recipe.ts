// The configuration with which the public distributed trainer (ArcticTraining, DeepSpeed) distils the same student: for
// models beyond one machine. What it writes loads here unchanged.

import { writeFile } from 'node:fs/promises';
import { SwiftKVError } from '../errors.ts';
import { type BaseModel, parameterShapes, type SwiftKVLayout } from './base-model.ts';

export interface ArcticRecipeOptions extends SwiftKVLayout {
  /** The base as the trainer is to find it: a folder, or a name on the Hugging Face hub. */
  name: string;
  /** The folder that the trainer is to write the student to. */
  output: string;
  /** Tokens of a sample, at most. Default 8192, or the model's positions if fewer. */
  maxLength?: number | undefined;
  learningRate?: number | undefined;
  /** Softens both distributions. */
  temperature?: number | undefined;
  hiddenLossMult?: number | undefined;
  hiddenLossLayer?: number | undefined;
}

/** The families that the public trainer has a SwiftKV form of. */
const families = ['llama', 'qwen2'];

/** Above, weights are sharded over devices too (ZeRO stage 3), as the public recipes do from 32 billion on. */
const stage2Parameters = 20e9;

/** The mix of the public recipes, samples of each. */
const sources = [
  ['Open-Orca/OpenOrca', 500_000],
  ['nvidia/AceMath-Instruct-Training-Data', 500_000, 'general_sft_stage2'],
  ['lmsys/lmsys-chat-1m', 500_000],
] as const;

/**
 * The YAML text. It belongs into `projects/swiftkv/configs` of the trainer's repository, whose `train.py` it names.
 * @throws ERR_MODEL_UNSUPPORTED for a family that the trainer does not have
 */
export function arcticRecipe({ config }: Pick<BaseModel, 'config'>, options: ArcticRecipeOptions): string {
  const family = config.modelType.replace(/_swiftkv$/, '');
  if (!families.includes(family)) {
    throw new SwiftKVError(
      'ERR_MODEL_UNSUPPORTED',
      `The public trainer has no SwiftKV form of model_type ${family}; it has ${families.join(' and ')}`,
    );
  }
  const { learningRate = 2e-4, temperature = 2, hiddenLossMult = 1, hiddenLossLayer = -2 } = options;
  const maxLength = options.maxLength ?? Math.min(8192, config.maxPositions);
  const plain = { ...config, modelType: family, numKvLayers: config.numLayers, groupSize: 1 };
  const parameters = [...parameterShapes(plain).values()].reduce(
    (sum, shape) => sum + shape.reduce((product, n) => product * n, 1),
    0,
  );
  return `type: swiftkv
code: ../train.py
micro_batch_size: 1
epochs: 1
gradient_accumulation_steps: 1
logits_loss_temp: ${decimal(temperature)}
hidden_loss_mult: ${decimal(hiddenLossMult)}
hidden_loss_layer: ${hiddenLossLayer}
model:
  name_or_path: ${JSON.stringify(options.name)}
  num_key_value_layers: ${options.numKvLayers}
  key_value_group_size: ${options.groupSize}
  attn_implementation: flash_attention_2
deepspeed:
  zero_optimization:
    stage: ${parameters > stage2Parameters ? 3 : 2}
data:
  sources:
${sources.map(sourceLines).join('\n')}
  cache_dir: ./data-cache
  num_proc: 16
  max_length: ${maxLength}
  mask_inputs: true
logger:
  level: INFO
  output_dir: ./
  file_output_ranks: [0]
scheduler:
  warmup_ratio: 0.05
optimizer:
  betas: [0.9, 0.999]
  weight_decay: 0.0
  lr: ${decimal(learningRate)}
checkpoint:
  - type: huggingface
    save_every_n_epochs: 1
    output_dir: ${JSON.stringify(options.output)}
    save_end_of_training: true
`;
}

/** Writes it to a file, which must not exist. @throws ERR_IO, ERR_MODEL_UNSUPPORTED */
export async function writeArcticRecipe(file: string, base: BaseModel, options: ArcticRecipeOptions): Promise<void> {
  const text = arcticRecipe(base, options);
  await writeFile(file, text, { flag: 'wx' }).catch((error: Error) => {
    throw new SwiftKVError('ERR_IO', `Writing ${file} failed: ${error.message}`, { cause: error });
  });
}

function sourceLines([name, count, split]: (typeof sources)[number]): string {
  const lines = [`- type: ${name}`, `  name_or_path: ${name}`, ...(split ? [`  split: ${split}`] : [])];
  return [...lines, `  sample_count: ${count}`].map((line) => `    ${line}`).join('\n');
}

/** YAML 1.1 takes 2e-4 for a text: a float needs its point. */
function decimal(value: number): string {
  const text = String(value);
  if (!text.includes('e')) return text.includes('.') ? text : `${text}.0`;
  const [mantissa, exponent] = text.split('e') as [string, string];
  return `${mantissa.includes('.') ? mantissa : `${mantissa}.0`}e${exponent.startsWith('-') ? exponent : `+${exponent}`}`;
}
