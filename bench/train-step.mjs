// A step of training (one micro-step and the update) against the same step in plain PyTorch, in turns in one run:
//   node bench/train-step.mjs [--task distill,train] [--model FOLDER] [--dtype f32,bf16] [--tokens 4096] [--length 1024]
//     [--recompute] [--repeat 5] [--threads N] [--python python3] [--json FILE]
// Prints medians and spread, tokens per second, and the share of the peak that the machine showed in the same run, by
// FLOPs that train-step-flops.mjs counts. Where that Python has no torch and safetensors, ours is measured alone. Before
// anything is timed the losses of the first step must agree: in f32 to 1e-4.

import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { relativeSpread, spread } from '../dist/cli/bench/statistics.js';
import { resolveModel } from '../dist/model/embedded.js';
import { openModel } from '../dist/model/open-model.js';
import { inverseFrequencies } from '../dist/model/rope.js';
import { TrainingModel } from '../dist/train/model.js';
import { planTraining } from '../dist/train/plan.js';
import { scale } from '../dist/train/trainer.js';
import { version } from '../dist/version.js';
import { tokenIds } from './common.mjs';
import { countProcessors } from './peers/cpu-share.mjs';
import { microStepFlops } from './train-step-flops.mjs';

const { values } = parseArgs({
  options: {
    task: { type: 'string', default: 'distill,train' },
    model: { type: 'string' },
    dtype: { type: 'string', default: 'f32,bf16' },
    tokens: { type: 'string', default: '4096' },
    length: { type: 'string', default: '1024' },
    recompute: { type: 'boolean', default: false },
    repeat: { type: 'string', default: '5' },
    threads: { type: 'string', default: String(availableParallelism()) },
    python: { type: 'string', default: 'python3' },
    json: { type: 'string' },
  },
});
const length = Number(values.length);
const sequences = Math.floor(Number(values.tokens) / length);
const rows = sequences * length;
const repeat = Number(values.repeat);
const threads = Number(values.threads);
if (!(sequences >= 1 && length >= 2 && repeat >= 1)) throw new Error('Expected --tokens of at least one --length');

const models = { distill: 'embedded:swiftkv-50', train: 'embedded:base' };
const temperature = 2;
const hiddenLossMult = 1;
const update = { lr: 1e-4, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, clip: 1 };
/** What multiplies, the first that the ISA level has. */
const peaks = { f32: ['fma_f32'], bf16: ['dot_bf16', 'fma_f32'] };
const peakMs = 100;
/** Losses of the first step, relative. In bf16 the two round in different places. */
const agreement = { f32: 1e-4, bf16: 5e-2 };

const hasTorch = spawnSync(values.python, ['-c', 'import torch, safetensors']).status === 0;
if (!hasTorch) console.log(`${values.python} cannot import torch and safetensors: ours alone (--python names another)`);

class Ours {
  constructor(name, model, batch) {
    Object.assign(this, { name, model, batch, pid: null });
  }

  static async open(task, source, dtype, recompute, ids) {
    const options = { maxRows: rows, maxSeqs: sequences, maxLength: length, temperature, hiddenLossLayer: -2 };
    const model = await TrainingModel.open(source, { task, dtype, recompute, threads, ...options });
    const starts = Int32Array.from({ length: sequences + 1 }, (_, i) => i * length);
    const weights = Float32Array.from({ length: rows }, (_, i) => (task === 'train' && (i + 1) % length === 0 ? 0 : 1));
    const [batch] = scale(model, [{ ids, starts, weights }], hiddenLossMult);
    return new Ours(recompute ? 'ours, recomputing' : 'ours', model, batch);
  }

  async step() {
    const start = performance.now();
    const { logitsLoss, hiddenLoss } = await this.model.microStep(this.batch);
    const middle = performance.now();
    await this.model.update(update);
    const end = performance.now();
    const bytes = this.model.device.memory().total;
    return { ms: end - start, updateMs: end - middle, logitsLoss, hiddenLoss, peakBytes: bytes };
  }

  /** Operations a second. */
  async peak(dtype) {
    for (const kind of peaks[dtype]) {
      try {
        return (await this.model.device.measurePeak(kind, peakMs)).perSecond;
      } catch (error) {
        if (error.code !== 'ERR_UNSUPPORTED' || kind === peaks[dtype].at(-1)) throw error;
      }
    }
  }

  end = () => this.model.dispose();
}

class Torch {
  name = 'torch';

  constructor(request) {
    this.child = spawn(values.python, [fileURLToPath(new URL('peers/train_step.py', import.meta.url))], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.pid = this.child.pid;
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
    this.info = this.#ask(request);
  }

  step() {
    return this.#ask({});
  }

  end() {
    this.child.stdin.end();
    return new Promise((resolve) => this.child.once('exit', resolve));
  }

  async #ask(request) {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error('train_step.py ended');
    return JSON.parse(value);
  }
}

function requireAgreement(dtype, ours, theirs) {
  for (const key of ['logitsLoss', 'hiddenLoss']) {
    const distance = Math.abs(ours[key] - theirs[key]) / Math.max(Math.abs(theirs[key]), 1e-6);
    if (!(distance <= agreement[dtype])) {
      throw new Error(`${key} of the first step in ${dtype}: ours ${ours[key]}, torch's ${theirs[key]}`);
    }
  }
}

async function measure(task, dtype) {
  const source = values.model ?? models[task];
  const { checkpoint, config } = await openModel(resolveModel(source));
  const ids = tokenIds(rows, config.vocabSize);
  const sides = [await Ours.open(task, source, dtype, false, ids)];
  const [{ model }] = sides;
  let torchInfo = null;
  if (hasTorch) {
    const folders = [checkpoint.base?.dir, checkpoint.dir].filter((dir) => dir !== undefined);
    const trained = model.parameters.trained.flatMap(({ parts }) => parts.map(({ name }) => name));
    const shared = { task, dtype, threads, length, temperature, update, trained, folders, config };
    const torch = new Torch({ ...shared, inverseFrequencies: [...inverseFrequencies(config)], ids: [...ids] });
    torchInfo = await torch.info;
    sides.push(torch);
  }
  if (values.recompute) sides.push(await Ours.open(task, source, dtype, true, ids));

  // The first step of each is its warm-up too.
  const first = [];
  for (const side of sides) first.push(await side.step());
  for (const [i, side] of sides.entries()) {
    if (side instanceof Torch) requireAgreement(dtype, first[0], first[i]);
  }

  const lengths = Array(sequences).fill(length);
  const counted = task === 'train' ? rows - sequences : rows;
  // What recomputation repeats is no progress: its FLOPs are those of the step without it.
  const flops = microStepFlops(planTraining(config, model.options), config, lengths, counted);
  const perSecond = [];
  const samples = sides.map(() => []);
  const count = countProcessors(sides.flatMap(({ pid }) => (pid === null ? [] : [pid])));
  for (let round = 0; round < repeat; round++) {
    perSecond.push(await sides[0].peak(dtype));
    for (const [i, side] of sides.entries()) samples[i].push(await side.step());
  }
  const { others } = count();
  const peak = spread(perSecond).median;
  const results = sides.map(({ name }, i) => {
    const ms = spread(samples[i].map((sample) => sample.ms));
    return {
      task,
      model: source,
      dtype,
      name,
      ms,
      updateMs: spread(samples[i].map((sample) => sample.updateMs)).median,
      tokensPerSecond: (rows / ms.median) * 1000,
      flops,
      shareOfPeak: flops / (ms.median / 1000) / peak,
      peakBytes: Math.max(...samples[i].map((sample) => sample.peakBytes)),
      firstLoss: { logits: first[i].logitsLoss, hidden: first[i].hiddenLoss },
      lastLoss: { logits: samples[i].at(-1).logitsLoss, hidden: samples[i].at(-1).hiddenLoss },
    };
  });
  const level = model.level;
  for (const side of sides) await side.end();
  return { results, peak, others, level, torch: torchInfo };
}

const report = { version, rows, length, threads, repeat, runs: [] };
for (const task of values.task.split(',')) {
  for (const dtype of values.dtype.split(',')) report.runs.push(await measure(task, dtype));
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);

const [{ level, torch }] = report.runs;
console.log(
  `${rows} tokens in sequences of ${length}, ${threads} threads, kernels ${level}, swiftkv ${version}, Node ` +
    `${process.version}${torch === null ? '' : `, torch ${torch.version}`}. Medians of ${repeat} steps in turns; memory: ` +
    'ours what it holds, torch the most that its process had resident.\n',
);
console.log("| task | dtype | | tokens/s | step ms | update ms | of peak | MiB | times torch's speed | others' CPU |");
console.log('| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |');
for (const { results, others } of report.runs) {
  const theirs = results.find(({ name }) => name === 'torch');
  for (const r of results) {
    const cells = [
      r.task,
      r.dtype,
      r.name,
      r.tokensPerSecond.toFixed(0),
      `${r.ms.median.toFixed(0)} (±${((relativeSpread(r.ms) / 2) * 100).toFixed(0)}%)`,
      r.updateMs.toFixed(1),
      `${(r.shareOfPeak * 100).toFixed(0)}%`,
      (r.peakBytes / 2 ** 20).toFixed(0),
      theirs === undefined ? '' : (r.tokensPerSecond / theirs.tokensPerSecond).toFixed(2),
      others === null ? '?' : `${(others * 100).toFixed(0)}%`,
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
}
