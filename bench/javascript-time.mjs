// What JavaScript spends on a step of a running engine, by the messages of `swiftkv:step`: planning, writing the batch,
// handing it to native code, telling the listeners of the step before, applying the results.
//   node bench/javascript-time.mjs [--model embedded:swiftkv-50] [--sequences 1,8,64] [--tokens 256] [--threads 1]
//     [--kv-cache-bytes N]
// Requests have a stop string that never comes, so that every token is decoded and searched in `notify`, not when it is
// read. Microseconds, median and p99 over the steps in which all sequences get their next token. With as many threads as
// the machine has processors, kernels and JavaScript take turns on one of them, and times are longer.

import { subscribe } from 'node:diagnostics_channel';
import { parseArgs } from 'node:util';
import { Engine } from '../dist/index.js';
import { resolveModel } from '../dist/model/embedded.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'embedded:swiftkv-50' },
    sequences: { type: 'string', default: '1,8,64' },
    tokens: { type: 'string', default: '256' },
    threads: { type: 'string', default: '1' },
    'kv-cache-bytes': { type: 'string', default: String(128 * 2 ** 20) },
  },
});
const maxTokens = Number(values.tokens);
const parts = ['scheduleMs', 'fillMs', 'submitMs', 'notifyMs', 'applyMs'];

const engine = await Engine.load(resolveModel(values.model), {
  threads: Number(values.threads),
  prefixCaching: false,
  kvCacheBytes: Number(values['kv-cache-bytes']),
  maxModelLen: 32 + maxTokens,
});
const { vocabSize } = engine.info().config;
let steps = [];
subscribe('swiftkv:step', (message) => steps.push(message));

async function load(sequences) {
  steps = [];
  const answers = Array.from({ length: sequences }, async (_, i) => {
    const tokenIds = Array.from({ length: 32 }, (_, k) => (i * 37 + k * 11 + 5) % vocabSize);
    const request = { tokenIds, maxTokens, ignoreEos: true, temperature: 0, stop: '\u0000never\u0000' };
    for await (const _ of engine.generate(request));
  });
  await Promise.all(answers);
  return steps.filter((step) => step.rows === sequences && step.items.every((item) => item.sample));
}

function quantile(list, q) {
  const sorted = list.toSorted((a, b) => a - b);
  return Math.round(sorted[Math.floor((sorted.length - 1) * q)] * 1000);
}

await load(8); // compiles the code
console.log(`microseconds, median / p99; ${values.model}, ${values.threads} thread(s) of kernels`);
console.log(
  ['sequences', 'steps', ...parts.map((part) => part.slice(0, -2)), 'sum', 'step'].map((h) => h.padStart(12)).join(''),
);
for (const sequences of values.sequences.split(',').map(Number)) {
  const measured = await load(sequences);
  const both = (of) => `${quantile(measured.map(of), 0.5)} / ${quantile(measured.map(of), 0.99)}`.padStart(12);
  const sum = (step) => parts.reduce((total, part) => total + step[part], 0);
  const cells = [...parts.map((part) => both((step) => step[part])), both(sum), both((s) => s.endedAt - s.startedAt)];
  console.log(String(sequences).padStart(12) + String(measured.length).padStart(12) + cells.join(''));
}
await engine.dispose();
