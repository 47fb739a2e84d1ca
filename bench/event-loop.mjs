// How late the event loop is while a prompt is read, against an idle loop, in turns:
//   node bench/event-loop.mjs [--model random:llama-3.2-1b] [--tokens 2048] [--rounds 5] [--threads N] [--isa LEVEL]
// Delays are those of monitorEventLoopDelay at a resolution of 1 ms, whose values contain that millisecond.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { formatOthers, formatSpread, loadForBench, median, tokenIds, withOthers } from './common.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'random:llama-3.2-1b' },
    tokens: { type: 'string', default: '2048' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string' },
    isa: { type: 'string' },
  },
});
const tokens = Number(values.tokens);
const rounds = Number(values.rounds);

const engine = await loadForBench(values.model, {
  threads: values.threads,
  isa: values.isa,
  maxModelLen: tokens + 16,
});
const ids = tokenIds(tokens, engine.info().config.vocabSize);

/** Milliseconds that `work` took, and the loop's delays meanwhile. */
async function delays(work) {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  const start = performance.now();
  await work();
  const ms = performance.now() - start;
  histogram.disable();
  return { ms, p50: histogram.percentile(50) / 1e6, p99: histogram.percentile(99) / 1e6, max: histogram.max / 1e6 };
}

const prefill = () => engine.generate({ tokenIds: ids, maxTokens: 1, temperature: 0, ignoreEos: true }).result();
await prefill();
const busy = [];
const idle = [];
const others = [];
for (let round = 0; round < rounds; round++) {
  const measured = await withOthers(() => delays(prefill));
  busy.push(measured.value);
  others.push(measured.others);
  idle.push(await delays(() => setTimeout(measured.value.ms)));
}
await engine.dispose();

console.log(
  `a prompt of ${tokens} tokens: ${formatSpread(
    busy.map((d) => d.ms),
    'ms',
  )}; others took ${formatOthers(others)}`,
);
console.log('| loop | p50 | p99 | max |');
console.log('| --- | ---: | ---: | ---: |');
for (const [name, rows] of [
  ['idle', idle],
  ['during the prompt', busy],
]) {
  const cells = ['p50', 'p99', 'max'].map((key) => `${median(rows.map((row) => row[key])).toFixed(2)} ms`);
  console.log(`| ${name} | ${cells.join(' | ')} |`);
}
const extra = busy.map((row, i) => row.p99 - idle[i].p99);
console.log(
  `p99 above idle: ${median(extra).toFixed(2)} ms (${Math.min(...extra).toFixed(2)} to ${Math.max(...extra).toFixed(2)} ms in ${rounds} rounds)`,
);
