// Proves that a GGUF file of ours is the model that we run: at every position of the same ids, the most likely next
// token and the largest logits of node-llama-cpp against ours.
//   node verify.mjs [MODEL...] [--positions 256] [--prompts 4] [--json]
// Without a model: the embedded one and its shape, in every type; models that are named, in bf16.
// Prints, per model and type: positions where the most likely tokens agree, how close ours was to a tie where they do
// not, and the root mean square difference of llama.cpp's five largest logits relative to the spread of all logits.

import { copyFile, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Engine } from '../../dist/index.js';
import { resolveModel } from '../../dist/model/embedded.js';
import { openLlama } from './llama-peer.mjs';
import { randomIds } from './token-ids.mjs';
import { writeModel } from './write-model.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    positions: { type: 'string', default: '256' },
    prompts: { type: 'string', default: '4' },
    json: { type: 'boolean', default: false },
  },
});
const positions = Number(values.positions);
const prompts = Number(values.prompts);
const top = 5;
/** A full context makes node-llama-cpp erase its beginning while it evaluates. */
const roomAgainstShift = 256;

/** The embedded model with a frequency scaling that matters at these positions; what it says then means nothing. */
async function scaledRopeModel(folder) {
  const base = resolveModel('embedded:base');
  const config = JSON.parse(await readFile(join(base, 'config.json'), 'utf8'));
  config.rope_scaling = {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 64,
  };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  await symlink(join(base, 'model.safetensors'), join(folder, 'model.safetensors'));
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) await copyFile(join(base, name), join(folder, name));
  return folder;
}

function spread(row) {
  let sum = 0;
  let squares = 0;
  for (const x of row) {
    sum += x;
    squares += x * x;
  }
  return Math.sqrt(squares / row.length - (sum / row.length) ** 2);
}

const largest = (row) => row.reduce((best, x, i) => (x > row[best] ? i : best), 0);

/** One prompt's comparison, added to `total`. */
function compare(ours, theirs, total) {
  for (let position = 0; position < ours.rows; position++) {
    const row = ours.data.subarray(position * ours.vocabSize, (position + 1) * ours.vocabSize);
    const [[theirBest]] = theirs[position];
    const ourBest = largest(row);
    const deviation = spread(row);
    total.positions++;
    if (ourBest === theirBest) total.agree++;
    else total.worstGap = Math.max(total.worstGap, (row[ourBest] - row[theirBest]) / deviation);
    for (const [id, logit] of theirs[position]) {
      const difference = (logit - row[id]) / deviation;
      total.squares += difference ** 2;
      total.logits++;
      total.worst = Math.max(total.worst, Math.abs(difference));
    }
  }
}

async function verify(source, name, type, path) {
  await writeModel(source, { matrices: type, head: type }, path);
  const total = { positions: 0, agree: 0, worstGap: 0, squares: 0, logits: 0, worst: 0 };
  const engine = await Engine.load(source, { dtype: 'bf16', maxModelLen: positions });
  const peer = await openLlama(path, { threads: 2, batchSizes: [512], contextSize: positions + roomAgainstShift });
  try {
    for (let prompt = 0; prompt < prompts; prompt++) {
      const ids = randomIds(engine.info().config.vocabSize, positions, prompt);
      const theirs = await peer.topLogits(ids, top);
      compare(await engine.logits(ids), theirs, total);
    }
  } finally {
    await engine.dispose();
    await peer.dispose();
    await rm(path);
  }
  const { agree, worstGap, squares, logits, worst } = total;
  return { model: name, type, positions: total.positions, agree, worstGap, rms: Math.sqrt(squares / logits), worst };
}

/** Source, name in the report, GGUF type. */
async function defaultCases(folder) {
  return [
    ['random:embedded', 'random:embedded', 'bf16'],
    ['embedded:base', 'embedded:base', 'bf16'],
    [await scaledRopeModel(folder), 'embedded:base with llama3 rope scaling', 'bf16'],
    ['embedded:base', 'embedded:base', 'q8_0'],
    ['embedded:base', 'embedded:base', 'q4_0'],
  ];
}

const folder = await mkdtemp(join(tmpdir(), 'swiftkv-peers-'));
try {
  const named = positionals.map((model) => [model, model, 'bf16']);
  const cases = named.length > 0 ? named : await defaultCases(folder);
  const results = [];
  for (const [source, name, type] of cases) results.push(await verify(source, name, type, join(folder, 'model.gguf')));
  if (values.json) {
    console.log(JSON.stringify(results, null, 2));
  } else {
    console.log('| model | GGUF type | same next token | widest gap where not | rms of top logits | worst |');
    console.log('| --- | --- | ---: | ---: | ---: | ---: |');
    for (const r of results) {
      const gap = r.agree === r.positions ? '' : r.worstGap.toFixed(4);
      const numbers = [`${r.agree} of ${r.positions}`, gap, r.rms.toFixed(5), r.worst.toFixed(4)];
      console.log(`| ${r.model} | ${r.type} | ${numbers.join(' | ')} |`);
    }
    console.log(
      '\nOurs computes in bf16 in every row. Gap, rms and worst are in standard deviations of a row of logits.',
    );
  }
} finally {
  await rm(folder, { recursive: true });
}
