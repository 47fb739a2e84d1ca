// A small whole model folder, and ways to open it: what the tests of hostile files start from.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openSource } from '../../lib/model/source.ts';
import { samplingDefaults } from '../../lib/sampling/options.ts';
import { loadTokenizer } from '../../lib/tokenizer/load.ts';
import { type GeneratedModel, plainModel, writeModel } from '../reference/generate.ts';

/** About 6 KB. */
export const tinyModel: GeneratedModel = {
  ...plainModel,
  layers: 2,
  kvLayers: 1,
  hiddenSize: 8,
  heads: 2,
  kvHeads: 1,
  intermediateSize: 12,
  vocabSize: 64,
  rope: 'llama3',
  stored: 'BF16',
};

/** Ids are the letters of the alphabet and a few merges; 60 entries. */
export function tinyTokenizer(): object {
  const vocab: Record<string, number> = { '<s>': 0, '</s>': 1 };
  for (const letter of 'abcdefghijklmnopqrstuvwxyzĠ') vocab[letter] = Object.keys(vocab).length;
  for (const pair of ['he', 'll', 'th']) vocab[pair] = Object.keys(vocab).length;
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      { id: 0, content: '<s>', special: true, single_word: false, lstrip: false, rstrip: false, normalized: false },
      { id: 1, content: '</s>', special: true, single_word: false, lstrip: false, rstrip: false, normalized: false },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', dropout: null, unk_token: null, vocab, merges: ['h e', 'l l', 't h'] },
  };
}

export const tinyFiles = {
  'generation_config.json': { temperature: 0.7, top_k: 40, top_p: 0.9, do_sample: true, eos_token_id: [1, 2] },
  'tokenizer_config.json': {
    bos_token: '<s>',
    eos_token: { content: '</s>' },
    chat_template: '{{ messages | length }}',
  },
  'tokenizer.json': tinyTokenizer(),
};

export async function writeTinyModel(dir: string, changes: Partial<GeneratedModel> = {}): Promise<void> {
  await mkdir(dir, { recursive: true });
  await writeModel(dir, { ...tinyModel, ...changes });
  for (const [name, json] of Object.entries(tinyFiles)) await writeFile(join(dir, name), JSON.stringify(json));
}

export async function readJson(path: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(path, 'utf8'));
}

/** Everything that a load reads, except the weights; the tokenizer is put to work. */
export async function openAll(dir: string): Promise<void> {
  const source = await openSource(dir, { dtype: 'auto', weightDtype: 'auto', activationDtype: 'auto' });
  samplingDefaults(source.generationConfig);
  const tokenizer = source.tokenizerDir === null ? null : await loadTokenizer([source.tokenizerDir]);
  try {
    if (tokenizer !== null) tokenizer.decode(await tokenizer.encode('hello the'));
  } finally {
    await tokenizer?.dispose();
  }
}
