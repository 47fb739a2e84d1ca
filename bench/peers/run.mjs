// swiftkv against node-llama-cpp at weights of equal bits, in turns in one run, each in a process of its own:
//   node run.mjs [--model random:llama-3.2-1b] [--bits 16,8,4] [--threads 1,2] [--prompts 512,2048] [--decode 64]
//     [--rounds 5] [--neighbour] [--json FILE] [--markdown FILE] [--dir FOLDER] [--limit 0.03] [--repeats 3]
// README.md says what is timed.

import { existsSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Engine } from '../../dist/index.js';
import { measureDecode, measureNeighbour, measurePrefill } from './measure.mjs';
import { startNeighbour } from './neighbour.mjs';
import { measurePeaks } from './peaks.mjs';
import { PeerClient } from './peer-client.mjs';
import { markdown } from './report.mjs';
import { weightCases } from './weight-cases.mjs';
import { writeModel } from './write-model.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'random:llama-3.2-1b' },
    bits: { type: 'string', default: '16,8,4' },
    threads: { type: 'string', default: '1,2' },
    prompts: { type: 'string', default: '512,2048' },
    decode: { type: 'string', default: '64' },
    context: { type: 'string', default: '16' },
    batches: { type: 'string', default: '512,2048' },
    rounds: { type: 'string', default: '5' },
    limit: { type: 'string', default: '0.03' },
    repeats: { type: 'string', default: '3' },
    neighbour: { type: 'boolean', default: false },
    json: { type: 'string' },
    markdown: { type: 'string' },
    dir: { type: 'string' },
  },
});
const list = (text) => (text === '' ? [] : text.split(',').map(Number));
const bits = list(values.bits);
const threadCounts = list(values.threads);
const prompts = list(values.prompts);
const batchSizes = list(values.batches).sort((a, b) => a - b);
const decode = { context: Number(values.context), tokens: Number(values.decode) };
const options = {
  rounds: Number(values.rounds),
  policy: { limit: Number(values.limit), repeats: Number(values.repeats) },
};
const warmUpTokens = 4;
const maxLength = Math.max(...prompts, decode.context + decode.tokens) + 64;
for (const each of bits) if (!(each in weightCases)) throw new RangeError(`--bits ${each}: expected 16, 8 or 4`);

const report = {
  model: values.model,
  machine: { cpu: cpus()[0].model.trim(), processors: availableParallelism(), node: process.version },
  options: { rounds: options.rounds, ...options.policy, prompts, decode, batchSizes },
  results: [],
  neighbours: [],
  peaks: [],
  peers: [],
  notes: [],
};
const say = (text) => console.error(text);

/** Our sides of a comparison, without those whose weight dtype this build does not have: the report says so. */
async function available(ours) {
  const kept = [];
  for (const [name, engineOptions] of Object.entries(ours)) {
    try {
      await (await Engine.load('random:embedded', engineOptions)).dispose();
      kept.push([name, engineOptions]);
    } catch (error) {
      if (!['ERR_INVALID_ARGUMENT', 'ERR_UNSUPPORTED'].includes(error.code)) throw error;
      report.notes.push(`Left out: swiftkv ${name}, which this build does not have (${error.code}: ${error.message})`);
    }
  }
  return kept;
}

/** Every peer of one comparison, loaded. */
async function openPeers(ours, gguf, threads, ggufPath) {
  const peers = [];
  const open = async (name, kind, own, ...args) => {
    const peer = new PeerClient(name);
    peers.push(peer);
    const { settings, loadMs } = await peer.call('open', kind, ...args);
    say(`${name}, ${threads} threads: loaded in ${(loadMs / 1000).toFixed(1)} s`);
    Object.assign(peer, { ours: own, settings, loadMs, batchSizes: own ? [] : batchSizes });
  };
  try {
    for (const [name, engineOptions] of ours) {
      const loadOptions = { ...engineOptions, threads, maxModelLen: maxLength };
      await open(`swiftkv ${name}`, 'swiftkv', true, values.model, loadOptions);
    }
    const contextSize = maxLength;
    await open(`node-llama-cpp ${gguf}`, 'node-llama-cpp', false, ggufPath, { threads, batchSizes, contextSize });
    return peers;
  } catch (error) {
    for (const peer of peers) peer.kill();
    throw error;
  }
}

const rounds = (peers, results) =>
  peers.map(({ name, ours, settings }) => ({
    name,
    ours,
    weightBytes: settings.weightBytes,
    rounds: results.get(name),
  }));

async function measureAll(peers, each, threads) {
  const { vocabSize } = peers.find(({ ours }) => ours).settings;
  const add = (what, tokens, all, more) => {
    report.results.push({ bits: each, threads, what, tokens, peers: rounds(peers, all), ...more });
    say(`${each} bits, ${threads} threads, ${what}: done`);
  };
  for (const tokens of prompts) {
    const { results, tries } = await measurePrefill(peers, tokens, vocabSize, options);
    add(`prefill ${tokens}`, tokens, results, { batchTries: tries });
  }
  if (decode.tokens === 0) return;
  for (const peer of peers) await peer.call('decode', { ...decode, tokens: warmUpTokens, vocabSize, seed: 0 });
  if (values.neighbour) {
    const neighbour = startNeighbour();
    try {
      const { quiet, busy } = await measureNeighbour(peers, decode, vocabSize, options, neighbour);
      const own = peers.map(({ name, ours }) => ({ name, ours, quiet: quiet.get(name), busy: busy.get(name) }));
      report.neighbours.push({ bits: each, threads, tokens: decode.tokens, pinned: neighbour.pinned, peers: own });
    } finally {
      neighbour.end();
    }
  } else {
    const all = await measureDecode(peers, decode, vocabSize, options);
    add(`decode ${decode.tokens}`, decode.tokens, all, { readsWeights: true });
  }
}

/** The model in a file: with --dir kept there and used again, else made for this run. */
async function ggufFile(folder, { gguf, head }) {
  const path = join(folder, `${values.model.replaceAll(/[^\w.-]+/g, '-')}-${gguf}-head-${head}.gguf`);
  if (values.dir !== undefined && existsSync(path)) {
    say(`using ${path}`);
    return path;
  }
  say(`writing ${path}`);
  await writeModel(values.model, { matrices: gguf, head }, `${path}.part`);
  await rename(`${path}.part`, path);
  return path;
}

const folder = values.dir ?? (await mkdtemp(join(tmpdir(), 'swiftkv-peers-')));
try {
  for (const each of bits) {
    const { gguf } = weightCases[each];
    const ours = await available(weightCases[each].ours);
    if (ours.length === 0) continue;
    const ggufPath = await ggufFile(folder, weightCases[each]);
    for (const threads of threadCounts) {
      const peers = await openPeers(ours, gguf, threads, ggufPath);
      try {
        await measureAll(peers, each, threads);
        report.peaks.push({ bits: each, ...(await measurePeaks(threads)) });
        for (const peer of peers) {
          const { peakBytes } = await peer.call('close');
          report.peers.push({ name: peer.name, threads, loadMs: peer.loadMs, peakBytes, settings: peer.settings });
        }
      } finally {
        for (const peer of peers) peer.kill();
      }
    }
    if (values.dir === undefined) await rm(ggufPath);
  }
} finally {
  if (values.dir === undefined) await rm(folder, { recursive: true });
}
const text = markdown(report);
if (values.json) await writeFile(values.json, `${JSON.stringify(report, null, 2)}\n`);
if (values.markdown) await writeFile(values.markdown, `${text}\n`);
console.log(text);
