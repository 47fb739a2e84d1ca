// The recipe for the public trainer, field by field.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { resolveModel } from '../../lib/model/embedded.ts';
import { openModel } from '../../lib/model/open-model.ts';
import { arcticRecipe, writeArcticRecipe } from '../../lib/train/arctic-recipe.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';

const folder = await temporaryFolder();
const base = await openModel(resolveModel('embedded:base'));
const options = { name: 'meta-llama/Llama-3.1-8B-Instruct', output: './student', numKvLayers: 4, groupSize: 2 };
const withConfig = (change: object) => ({ config: { ...base.config, ...change } });

it('is the public recipe with the layout, the base and the folder', () => {
  expect(arcticRecipe(withConfig({ maxPositions: 131_072 }), options)).toBe(`type: swiftkv
code: ../train.py
micro_batch_size: 1
epochs: 1
gradient_accumulation_steps: 1
logits_loss_temp: 2.0
hidden_loss_mult: 1.0
hidden_loss_layer: -2
model:
  name_or_path: "meta-llama/Llama-3.1-8B-Instruct"
  num_key_value_layers: 4
  key_value_group_size: 2
  attn_implementation: flash_attention_2
deepspeed:
  zero_optimization:
    stage: 2
data:
  sources:
    - type: Open-Orca/OpenOrca
      name_or_path: Open-Orca/OpenOrca
      sample_count: 500000
    - type: nvidia/AceMath-Instruct-Training-Data
      name_or_path: nvidia/AceMath-Instruct-Training-Data
      split: general_sft_stage2
      sample_count: 500000
    - type: lmsys/lmsys-chat-1m
      name_or_path: lmsys/lmsys-chat-1m
      sample_count: 500000
  cache_dir: ./data-cache
  num_proc: 16
  max_length: 8192
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
  lr: 0.0002
checkpoint:
  - type: huggingface
    save_every_n_epochs: 1
    output_dir: "./student"
    save_end_of_training: true
`);
});

it('shards the weights of large models, keeps to the positions of small ones, and writes floats as YAML reads them', () => {
  const large = withConfig({
    hiddenSize: 8192,
    intermediateSize: 28_672,
    numLayers: 80,
    numKvLayers: 80,
    headDim: 128,
  });
  expect(arcticRecipe(large, options)).toContain('    stage: 3\n');
  const small = arcticRecipe(base, { ...options, learningRate: 1e-7, temperature: 1.5 });
  expect(small).toContain('  max_length: 2048\n');
  expect(small).toContain('  lr: 1.0e-7\n');
  expect(small).toContain('logits_loss_temp: 1.5\n');
});

it('is refused for a family that the trainer does not have, and never overwrites a file', async () => {
  expect(() => arcticRecipe(withConfig({ modelType: 'mistral' }), options)).toThrow(
    /no SwiftKV form of model_type mistral/,
  );
  const file = join(folder, 'recipe.yaml');
  await writeArcticRecipe(file, base, options);
  expect(await readFile(file, 'utf8')).toBe(arcticRecipe(base, options));
  await expect(writeArcticRecipe(file, base, options)).rejects.toMatchObject({ code: 'ERR_IO' });
});
