// A model of ours as a GGUF file for llama.cpp: the same weights, and a tokenizer that only has the right size.
//   node write-model.mjs random:llama-3.2-1b --type bf16|q8_0|q4_0 [--head TYPE] --out FILE

import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { ggmlTypes } from './ggml-types.mjs';
import { writeGguf } from './gguf.mjs';
import { modelTensors } from './model-tensors.mjs';

/** llama.cpp's kinds of tokens. */
const normal = 1;
const unknown = 2;
const control = 3;
const byte = 6;

/** Ids are all that is used; llama.cpp wants a text for each, and a byte token for each byte. */
function tokenizer(vocabSize) {
  const tokens = ['<unk>', '<s>', '</s>'];
  const types = [unknown, control, control];
  for (let value = 0; value < 256; value++) {
    tokens.push(`<0x${value.toString(16).toUpperCase().padStart(2, '0')}>`);
    types.push(byte);
  }
  while (tokens.length < vocabSize) {
    tokens.push(`t${tokens.length}`);
    types.push(normal);
  }
  return [
    ['tokenizer.ggml.model', 'string', 'llama'],
    ['tokenizer.ggml.tokens', ['string'], tokens],
    ['tokenizer.ggml.scores', ['f32'], tokens.map((_, i) => -i)],
    ['tokenizer.ggml.token_type', ['i32'], types],
    ['tokenizer.ggml.unknown_token_id', 'u32', 0],
    ['tokenizer.ggml.bos_token_id', 'u32', 1],
    ['tokenizer.ggml.eos_token_id', 'u32', 2],
    ['tokenizer.ggml.add_bos_token', 'bool', false],
    ['tokenizer.ggml.add_eos_token', 'bool', false],
  ];
}

function architecture(c, type) {
  return [
    ['general.architecture', 'string', 'llama'],
    ['general.name', 'string', 'swiftkv peer'],
    ['general.file_type', 'u32', ggmlTypes[type].fileType],
    ['llama.vocab_size', 'u32', c.vocabSize],
    ['llama.context_length', 'u32', c.maxPositions],
    ['llama.embedding_length', 'u32', c.hiddenSize],
    ['llama.block_count', 'u32', c.numLayers],
    ['llama.feed_forward_length', 'u32', c.intermediateSize],
    ['llama.attention.head_count', 'u32', c.numHeads],
    ['llama.attention.head_count_kv', 'u32', c.numKvHeads],
    ['llama.attention.key_length', 'u32', c.headDim],
    ['llama.attention.value_length', 'u32', c.headDim],
    ['llama.attention.layer_norm_rms_epsilon', 'f32', c.rmsNormEps],
    ['llama.rope.dimension_count', 'u32', c.headDim],
    ['llama.rope.freq_base', 'f32', c.rope.theta],
  ];
}

/** @param source, types as for `modelTensors` @returns bytes of the file */
export async function writeModel(source, types, path) {
  const { config, tensors, close } = await modelTensors(source, types);
  try {
    return await writeGguf(path, [...architecture(config, types.matrices), ...tokenizer(config.vocabSize)], tensors);
  } finally {
    close();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const options = {
    type: { type: 'string', default: 'bf16' },
    head: { type: 'string' },
    out: { type: 'string' },
  };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const { type, head = type, out } = values;
  if (positionals.length !== 1 || !out || ![type, head].every((each) => ['bf16', 'q8_0', 'q4_0'].includes(each))) {
    console.error('Usage: node write-model.mjs MODEL --out FILE [--type bf16|q8_0|q4_0] [--head bf16|q8_0|q4_0]');
    process.exit(2);
  }
  const bytes = await writeModel(positionals[0], { matrices: type, head }, out);
  console.log(`${out}: ${(bytes / 1e6).toFixed(1)} MB`);
}
