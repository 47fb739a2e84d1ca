// The plain model against SwiftKV 50% on a device: time to the first token, tokens a second, bytes of the KV cache.
// bench/gpu.sh runs this; alone:
//   node bench/gpu/models.mjs [--device cuda] [--model llama-3.1-8b] [--prompt 2048] [--answer 64] [--requests 1,16]
//     [--rounds 3] [--seconds N] [--json FILE]
// One model is loaded at a time: two of 8B and their caches need not fit together. None is after --seconds.

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { renderTable } from '../../dist/cli/bench/output.js';
import { Engine } from '../../dist/index.js';
import { tokenIds } from '../common.mjs';

const { values: flags } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    model: { type: 'string', default: 'llama-3.1-8b' },
    variants: { type: 'string', default: 'plain,kv-layers=50%,kv-layers=50%&group=4' },
    prompt: { type: 'string', default: '2048' },
    answer: { type: 'string', default: '64' },
    requests: { type: 'string', default: '1,16' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: 'Infinity' },
    json: { type: 'string' },
  },
});
const prompt = Number(flags.prompt);
const answer = Number(flags.answer);
const requestCounts = flags.requests.split(',').map(Number);
const most = Math.max(...requestCounts);
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** So many requests at once: times of each, and tokens of all over the time of all. */
async function round(engine, count, vocabSize, seed) {
  const start = performance.now();
  const answers = await Promise.all(
    Array.from({ length: count }, (_, i) =>
      engine
        .generate({
          tokenIds: tokenIds(prompt, vocabSize, seed + i),
          maxTokens: answer,
          temperature: 0,
          ignoreEos: true,
        })
        .result(),
    ),
  );
  const seconds = (performance.now() - start) / 1000;
  return {
    ttftMs: median(answers.map((a) => a.timings.ttftMs)),
    tpotMs: median(answers.map((a) => a.timings.tpotMs)),
    tokensPerSecond: (count * (prompt + answer)) / seconds,
    outputTokensPerSecond: (count * answer) / seconds,
  };
}

const results = [];
let failed = false;
for (const variant of flags.variants.split(',')) {
  const source = `random:${flags.model}${variant === 'plain' ? '' : `?${variant}`}`;
  if (performance.now() > Number(flags.seconds) * 1000) {
    failed = true;
    console.log(`FAILED ${source}: not measured: no time left`);
    continue;
  }
  let engine;
  try {
    const begun = performance.now();
    engine = await Engine.load(source, {
      device: flags.device,
      dtype: 'bf16',
      ...(variant.includes('group') && { kvCacheDtype: 'fp8' }),
      prefixCaching: false,
      maxModelLen: prompt + answer + 16,
      maxSequences: most,
      maxBatchRows: 2048,
    });
    const loadSeconds = (performance.now() - begun) / 1000;
    const info = engine.info();
    await round(engine, 1, info.config.vocabSize, 1);
    for (const count of requestCounts) {
      const rounds = [];
      for (let i = 0; i < Number(flags.rounds); i++)
        rounds.push(await round(engine, count, info.config.vocabSize, 1000 * (i + 1)));
      const figure = (name) => median(rounds.map((r) => r[name]));
      results.push({
        source,
        variant,
        requests: count,
        ttftMs: figure('ttftMs'),
        tpotMs: figure('tpotMs'),
        tokensPerSecond: figure('tokensPerSecond'),
        outputTokensPerSecond: figure('outputTokensPerSecond'),
        kvBytesPerToken: info.kvBytesPerToken,
        kvCacheDtype: info.kvCacheDtype,
        level: info.level,
        loadSeconds,
      });
    }
  } catch (error) {
    failed = true;
    console.log(`FAILED ${source}: ${error.code ?? error.name}: ${error.message}`);
  } finally {
    await engine?.dispose();
  }
}

const base = (r) => results.find((other) => other.requests === r.requests);
const column = (title, cell) => ({ title, align: 'right', cell });
console.log(`prompts of ${prompt} tokens, answers of ${answer}, on ${flags.device}`);
console.log(
  renderTable(
    [
      { title: 'model', align: 'left', cell: (r) => r.source },
      column('requests', (r) => String(r.requests)),
      column('TTFT ms', (r) => r.ttftMs.toFixed(1)),
      column('of plain', (r) => (r.ttftMs / base(r).ttftMs).toFixed(3)),
      column('ms a token', (r) => r.tpotMs.toFixed(2)),
      column('tokens/s', (r) => r.tokensPerSecond.toFixed(0)),
      column('of plain', (r) => (r.tokensPerSecond / base(r).tokensPerSecond).toFixed(3)),
      column('KV bytes a token', (r) => String(r.kvBytesPerToken)),
      column('load s', (r) => r.loadSeconds.toFixed(1)),
    ],
    results,
    true,
  ),
);
if (flags.json) writeFileSync(flags.json, `${JSON.stringify({ prompt, answer, results }, null, 1)}\n`);
process.exitCode = failed ? 1 : 0;
