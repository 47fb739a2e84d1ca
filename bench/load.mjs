// How fast a checkpoint loads from a warm page cache, how much memory that takes at its peak, and what the event loop
// and an abort notice of it:
//   node bench/load.mjs [--model random:llama-3.2-1b] [--stored bf16|f16|f32] [--weight-dtype LIST] [--rounds 3]
//                       [--threads N] [--isa LEVEL] [--dir FOLDER]
// Writes a checkpoint of the model's shape, two shards of arbitrary numbers, to FOLDER (a new one in the system's folder for
// temporary files, removed at the end), then loads it in a process of its own for every round, dtypes in turns. The same
// bytes are read by plain reads in the same rounds, and as much new memory is touched: what loading is compared with.

import { fork } from 'node:child_process';
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { indexFile } from '../dist/checkpoint/checkpoint.js';
import { writeSafetensors } from '../dist/checkpoint/write-safetensors.js';
import { Engine } from '../dist/index.js';
import { architectures } from '../dist/model/architectures.js';
import { parseRandomModel } from '../dist/model/random.js';
import { native } from '../dist/native/load.js';
import { formatOthers, formatSpread, median, withOthers } from './common.mjs';

const MiB = 2 ** 20;
const pieceBytes = 4 * MiB;
const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
const elementBytes = { bf16: 2, f16: 2, f32: 4 };

if (process.env.SWIFTKV_BENCH_LOAD_CHILD === undefined) await compare();
else process.on('message', async (task) => process.send(await answer(task)));

function answer(task) {
  if (task.touch !== undefined) return touchMemory(task.touch);
  return task.abortAfter ? abortedLoad(task) : load(task);
}

async function compare() {
  const { values } = parseArgs({
    options: {
      model: { type: 'string', default: 'random:llama-3.2-1b' },
      stored: { type: 'string', default: 'bf16' },
      'weight-dtype': { type: 'string', default: 'auto,fp8,int8,int4' },
      rounds: { type: 'string', default: '3' },
      threads: { type: 'string' },
      isa: { type: 'string' },
      dir: { type: 'string' },
    },
  });
  const dir = values.dir ?? (await mkdtemp(join(tmpdir(), 'swiftkv-load-')));
  await mkdir(dir, { recursive: true });
  try {
    const bytes = await writeCheckpoint(dir, values.model, values.stored);
    console.log(`${values.model} stored in ${values.stored}: ${(bytes / MiB).toFixed(0)} MiB in two shards`);
    const dtypes = values['weight-dtype'].split(',');
    const results = new Map(dtypes.map((dtype) => [dtype, []]));
    const reads = [];
    const touches = [];
    const others = [];
    const options = {
      ...(values.threads && { threads: Number(values.threads) }),
      ...(values.isa && { isa: values.isa }),
    };
    for (let round = 0; round < Number(values.rounds); round++) {
      reads.push(bytes / (await plainRead(dir)) / 1e6);
      touches.push(bytes / (await inChild({ touch: bytes })).ms / 1e6);
      for (const weightDtype of dtypes) {
        const result = await inChild({ dir, options: { ...options, weightDtype } });
        results.get(weightDtype).push(result);
        others.push(result.others);
      }
    }
    console.log(`plain reads of both shards: ${formatSpread(reads, 'GB/s', 2)}`);
    console.log(`pages of as much new memory: ${formatSpread(touches, 'GB/s', 2)}`);
    print(bytes, median(reads), results, others);
    const slowest = median(results.get(dtypes[0]).map(({ ms }) => ms));
    for (const part of [0.1, 0.5, 0.9]) {
      const abortAfter = slowest * part;
      const { ms } = await inChild({ dir, options: { ...options, weightDtype: dtypes[0] }, abortAfter });
      const outcome = ms === null ? 'the load was done before' : `rejected ${ms.toFixed(1)} ms later`;
      console.log(`abort after ${abortAfter.toFixed(0)} ms: ${outcome}`);
    }
  } finally {
    if (values.dir === undefined) await rm(dir, { recursive: true });
  }
}

function print(bytes, plain, results, others) {
  console.log('| weights | packed | load | source | of plain reads | peak / packed | loop p99 | loop max | progress |');
  console.log('| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |');
  for (const [dtype, rounds] of results) {
    const of = (f) => median(rounds.map(f));
    const speed = of(({ ms }) => bytes / ms / 1e6);
    const cells = [
      dtype,
      `${(rounds[0].packed / MiB).toFixed(0)} MiB`,
      formatSpread(
        rounds.map(({ ms }) => ms),
        'ms',
        0,
      ),
      `${speed.toFixed(2)} GB/s`,
      `${((100 * speed) / plain).toFixed(0)}%`,
      of(({ peak, packed }) => peak / packed).toFixed(3),
      `${of(({ p99 }) => p99).toFixed(1)} ms`,
      `${of(({ max }) => max).toFixed(1)} ms`,
      `${of(({ reports }) => reports)} reports`,
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
  console.log(`other processes took ${formatOthers(others)} of the machine; KV pool and workspace are not in the peak`);
}

/** In a process whose memory nothing else has touched. */
function inChild(task) {
  return new Promise((resolve, reject) => {
    const child = fork(new URL(import.meta.url), { env: { ...process.env, SWIFTKV_BENCH_LOAD_CHILD: '1' } });
    child.once('message', (result) => {
      resolve(result);
      child.disconnect();
    });
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`the loading process ended with ${code}`)));
    child.send(task);
  });
}

async function memory(field) {
  const status = await readFile('/proc/self/status', 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(status)[1]) * 1024;
}

async function load({ dir, options }) {
  const before = await memory('VmRSS');
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  let reports = 0;
  const start = performance.now();
  const loading = () =>
    Engine.load(dir, {
      ...options,
      maxModelLen: 256,
      maxSequences: 1,
      maxBatchRows: 32,
      kvCacheBytes: 32 * MiB,
      onProgress: () => reports++,
    });
  // Here, where the threads are this process's own.
  const { value: engine, others } = await withOthers(loading);
  const ms = performance.now() - start;
  delay.disable();
  const { bytes } = engine.info();
  const peak = (await memory('VmHWM')) - before - (bytes.total - bytes.weights);
  await engine.dispose();
  return { ms, peak, others, packed: bytes.weights, p99: delay.percentile(99) / 1e6, max: delay.max / 1e6, reports };
}

/** Milliseconds until the system has given a process so much memory: nothing can load faster. */
async function touchMemory(bytes) {
  const { affinity, levels } = native().cpuInfo();
  const device = native().openDevice({ backend: 'cpu', threads: affinity, level: levels.at(-1) });
  native().tensor(device, 'u8', [Math.ceil(bytes / 2), 2], 'row_major');
  const start = performance.now();
  await device.touch();
  const ms = performance.now() - start;
  device.close();
  return { ms };
}

/** Milliseconds from the abort to the rejection; null: there was nothing left to abort. */
async function abortedLoad({ dir, options, abortAfter }) {
  const controller = new AbortController();
  let abortedAt = Number.NaN;
  setTimeout(() => {
    abortedAt = performance.now();
    controller.abort();
  }, abortAfter);
  const engine = await Engine.load(dir, { ...options, kvCacheBytes: 32 * MiB, signal: controller.signal }).catch(
    () => null,
  );
  const ms = engine === null ? performance.now() - abortedAt : null;
  await engine?.dispose();
  return { ms };
}

/** Milliseconds for reading both shards into one buffer. */
async function plainRead(dir) {
  const buffer = Buffer.alloc(pieceBytes);
  const start = performance.now();
  for (const shard of shards) {
    const file = await open(join(dir, shard));
    for (let at = 0; ; ) {
      const { bytesRead } = await file.read(buffer, 0, pieceBytes, at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    await file.close();
  }
  return performance.now() - start;
}

/** Returns the bytes of all tensors. */
async function writeCheckpoint(dir, model, stored) {
  const { config: c } = parseRandomModel(model);
  const json = {
    model_type: 'llama',
    vocab_size: c.vocabSize,
    hidden_size: c.hiddenSize,
    intermediate_size: c.intermediateSize,
    num_hidden_layers: c.numLayers,
    num_attention_heads: c.numHeads,
    num_key_value_heads: c.numKvHeads,
    head_dim: c.headDim,
    rms_norm_eps: c.rmsNormEps,
    rope_theta: c.rope.theta,
    max_position_embeddings: c.maxPositions,
    tie_word_embeddings: c.tieWordEmbeddings,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  if (c.modelType !== 'llama') throw new Error(`expected a plain Llama for --model but received ${model}`);
  const parts = [...architectures.get('llama').weights(c)].flatMap((target) => target.parts);
  const tensors = parts.map(({ name, shape }) => {
    const bytes = shape.reduce((product, n) => product * n, elementBytes[stored]);
    return { name, dtype: stored.toUpperCase(), shape, data: arbitraryNumbers(bytes, stored), bytes };
  });
  const weightMap = {};
  for (const [i, shard] of shards.entries()) {
    const own = tensors.filter((_, t) => t % shards.length === i);
    await writeSafetensors(join(dir, shard), own);
    for (const { name } of own) weightMap[name] = shard;
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(json));
  await writeFile(join(dir, indexFile), JSON.stringify({ weight_map: weightMap }));
  return tensors.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Magnitudes of 2^-6 to 2^-5 in any of the types. */
async function* arbitraryNumbers(bytes, stored) {
  const [keep, exponent] = {
    bf16: [0x807f807f, 0x3c803c80],
    f16: [0x83ff83ff, 0x24002400],
    f32: [0x807fffff, 0x3c800000],
  }[stored];
  const words = Uint32Array.from({ length: pieceBytes / 4 }, (_, i) => {
    const x = Math.imul(i + 1, 0x9e3779b1);
    return (((x ^ (x >>> 15)) & keep) | exponent) >>> 0;
  });
  const piece = new Uint8Array(words.buffer);
  for (let at = 0; at < bytes; at += pieceBytes) yield piece.subarray(0, Math.min(pieceBytes, bytes - at));
}
