// Tokens per second while other processes keep half of the cores busy, against an undisturbed machine, in turns:
//   node bench/neighbour.mjs [--model random:llama-3.2-1b] [--prompt 512] [--tokens 32] [--rounds 5] [--busy N]
//                            [--threads N] [--isa LEVEL]
// --busy: processes that spin; by default one for each two logical processors.

import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { formatOthers, formatSpread, loadForBench, median, tokenIds, withOthers } from './common.mjs';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'random:llama-3.2-1b' },
    prompt: { type: 'string', default: '512' },
    tokens: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '5' },
    busy: { type: 'string', default: String(Math.max(1, Math.floor(availableParallelism() / 2))) },
    threads: { type: 'string' },
    isa: { type: 'string' },
  },
});
const [prompt, tokens, rounds, busy] = ['prompt', 'tokens', 'rounds', 'busy'].map((name) => Number(values[name]));
/** Until the scheduler of the operating system has spread the load. */
const settleMs = 300;

const engine = await loadForBench(values.model, {
  threads: values.threads,
  isa: values.isa,
  maxModelLen: prompt + tokens + 16,
});
const ids = tokenIds(prompt, engine.info().config.vocabSize);

async function measure() {
  const { timings } = await engine
    .generate({ tokenIds: ids, maxTokens: tokens, temperature: 0, ignoreEos: true })
    .result();
  return { prefill: timings.prefillTokensPerSecond, decode: timings.decodeTokensPerSecond };
}

async function withNeighbours(work) {
  const neighbours = Array.from({ length: busy }, () =>
    spawn(process.execPath, ['-e', 'for (;;);'], { stdio: 'ignore' }),
  );
  try {
    await setTimeout(settleMs);
    return await work();
  } finally {
    for (const neighbour of neighbours) neighbour.kill('SIGKILL');
  }
}

await measure();
const alone = [];
const beside = [];
const others = { alone: [], beside: [] };
for (let round = 0; round < rounds; round++) {
  const quiet = await withOthers(measure);
  alone.push(quiet.value);
  others.alone.push(quiet.others);
  const disturbed = await withNeighbours(() => withOthers(measure));
  beside.push(disturbed.value);
  others.beside.push(disturbed.others);
}
await engine.dispose();

console.log(
  `a prompt of ${prompt} tokens and an answer of ${tokens}; ${busy} busy process(es); others took ` +
    `${formatOthers(others.alone)} alone, ${formatOthers(others.beside)} with neighbours`,
);
for (const kind of ['prefill', 'decode']) {
  const of = (rows) => rows.map((row) => row[kind]);
  const ratios = of(beside).map((rate, i) => rate / of(alone)[i]);
  console.log(
    `${kind}: alone ${formatSpread(of(alone), 'tokens/s')}, with neighbours ${formatSpread(of(beside), 'tokens/s')}, ` +
      `kept ${(median(ratios) * 100).toFixed(0)}% (${(Math.min(...ratios) * 100).toFixed(0)} to ${(Math.max(...ratios) * 100).toFixed(0)}%)`,
  );
}
