// What JavaScript spends on one step: planning, writing the batch, applying the results. No native code runs.
//   node bench/step-overhead.mjs [--steps 20000]
// Prints microseconds a step (median of 9 runs), as a share of a 1 ms step, and bytes of heap a step.

import { parseArgs } from 'node:util';
import { BatchWriter } from '../dist/engine/batch-fill.js';
import { BlockManager } from '../dist/engine/block-manager.js';
import { Scheduler } from '../dist/engine/scheduler.js';
import { Sequence } from '../dist/engine/sequence.js';

const { values } = parseArgs({ options: { steps: { type: 'string', default: '20000' } } });
const steps = Number(values.steps);

const config = {
  vocabSize: 128256,
  hiddenSize: 2048,
  intermediateSize: 8192,
  numLayers: 16,
  numHeads: 32,
  numKvHeads: 8,
  headDim: 64,
  numKvLayers: 8,
  groupSize: 1,
};
const maxModelLen = 131072;
const capacity = {
  maxRows: 512,
  maxSeqs: 64,
  maxLogitRows: 64,
  maxBlocksPerSeq: maxModelLen / 16,
  numLayers: 16,
  vocabSize: 128256,
  maxTopLogprobs: 20,
  maxCopies: 64,
};

function makeBatch() {
  const { maxRows, maxSeqs, maxLogitRows, maxBlocksPerSeq } = capacity;
  const rows = ['ids', 'positionsT', 'slotsT', 'survivors', 'positionsS'];
  const seqs = ['queryStartT', 'contextLenT', 'tableRowT', 'queryStartS', 'contextLenS', 'tableRowS', 'rowLayers'];
  const logits = ['logitRows', 'samplerSlots', 'outputPositions', 'forcedIds', 'maskRows', 'logprobRows', 'sampledIds'];
  const batch = { capacity, counts: new Int32Array(7), blockTables: new Int32Array(maxSeqs * maxBlocksPerSeq) };
  for (const field of rows) batch[field] = new Int32Array(maxRows);
  for (const field of seqs) batch[field] = new Int32Array(maxSeqs + 1);
  for (const field of ['copySources', 'copyDestinations']) batch[field] = new Int32Array(capacity.maxCopies);
  for (const field of logits) batch[field] = new Int32Array(maxLogitRows).fill(7);
  return batch;
}

/** Microseconds and heap bytes a step, of `count` steps with `decodes` running answers and a long prompt if `chunk`. */
function measure(decodes, chunk, count) {
  const blocks = new BlockManager(1 << 17);
  const limits = { ...capacity, maxScoredRows: 8, maxWaiting: 1000, maxModelLen, maxStepMs: 1e9 };
  const scheduler = new Scheduler(config, limits, blocks);
  const writers = [new BatchWriter(makeBatch()), new BatchWriter(makeBatch())];
  const add = (length, maxTokens) =>
    scheduler.add(
      new Sequence({
        prompt: new Int32Array(length),
        maxTokens,
        stopIds: new Set(),
        fullDepth: false,
        scoring: null,
      }),
    );
  let turn = 0;
  const step = () => {
    const plan = scheduler.schedule();
    const writer = writers[turn++ & 1];
    writer.write(plan);
    scheduler.complete(plan, writer.batch.sampledIds, writer.batch.rowLayers, 1);
  };
  for (let i = 0; i < decodes; i++) add(64, maxModelLen - 64);
  for (let i = 0; i < 200; i++) step();
  const heap = process.memoryUsage().heapUsed;
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    if (chunk && scheduler.numRunning === decodes) add(100_000, 1);
    step();
  }
  const us = ((performance.now() - start) * 1000) / count;
  return { us, bytes: Math.max(0, process.memoryUsage().heapUsed - heap) / count };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];

console.log('| step | us | of a 1 ms step | heap bytes |');
console.log('| --- | ---: | ---: | ---: |');
for (const [decodes, chunk] of [
  [1, false],
  [16, false],
  [63, false],
  [63, true],
]) {
  const runs = Array.from({ length: 9 }, () => measure(decodes, chunk, Math.ceil(steps / 9)));
  const us = median(runs.map((r) => r.us));
  const bytes = median(runs.map((r) => r.bytes));
  const name = `${decodes} decodes${chunk ? ' and a chunk of 449 rows' : ''}`;
  console.log(`| ${name} | ${us.toFixed(1)} | ${(us / 10).toFixed(2)}% | ${bytes.toFixed(0)} |`);
}
