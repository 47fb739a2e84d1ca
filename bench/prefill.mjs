// Prefill time of SwiftKV against the plain model of the same shape, interleaved in one run:
//   node bench/prefill.mjs [--model llama-3.2-1b] [--tokens 2048] [--rounds 5] [--threads N] [--options kv-layers=50%]
// Prints medians, spread, the ratio, and the ratio that FLOPs alone would give (docs/performance.md).

import { parseArgs } from 'node:util';
import { Engine } from '../dist/index.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: 'llama-3.2-1b' },
    tokens: { type: 'string', default: '2048' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string' },
    options: { type: 'string', default: 'kv-layers=50%' },
  },
});

const tokens = Number(values.tokens);
const rounds = Number(values.rounds);
const sources = [`random:${values.model}`, `random:${values.model}?${values.options}`];

/** FLOPs of a prompt whose last logits are wanted: swiftkv.md's formula, multiply-add = 2. */
function prefillFlops(c, length) {
  const { hiddenSize: d, numHeads, numKvHeads, headDim, intermediateSize, numLayers, numKvLayers, groupSize } = c;
  const qo = 4 * d * numHeads * headDim;
  const kv = 4 * d * numKvHeads * headDim;
  const mlp = 6 * d * intermediateSize;
  const attention = (context) => 4 * numHeads * headDim * context;
  const early = numKvLayers * (length * (qo + kv + mlp) + attention((length * (length + 1)) / 2));
  const later = numLayers - numKvLayers;
  const survivors = later === 0 ? 0 : (later / groupSize) * length * kv + later * (qo + mlp + attention(length));
  return early + survivors + 2 * d * c.vocabSize;
}

const engines = [];
for (const source of sources) {
  const engine = await Engine.load(source, {
    dtype: 'bf16',
    prefixCaching: false, // the prompt repeats
    maxModelLen: tokens + 16,
    ...(values.threads && { threads: Number(values.threads) }),
  });
  engines.push({ source, engine, info: engine.info(), times: [], usage: null });
}

const ids = Int32Array.from(
  { length: tokens },
  (_, i) => 5 + (((i * 7919) % 30_000) % (engines[0].info.config.vocabSize - 5)),
);
for (let round = -1; round < rounds; round++) {
  for (const e of engines) {
    const { usage, timings } = await e.engine
      .generate({ tokenIds: ids, maxTokens: 1, temperature: 0, ignoreEos: true })
      .result();
    if (round >= 0) e.times.push(timings.ttftMs);
    e.usage = usage;
  }
}

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
for (const { source, info, times, usage } of engines) {
  const ms = median(times);
  const flops = prefillFlops(info.config, tokens);
  console.log(
    `${source}: ${ms.toFixed(0)} ms (${Math.min(...times).toFixed(0)} to ${Math.max(...times).toFixed(0)} in ${rounds} rounds), ` +
      `${((tokens / ms) * 1000).toFixed(1)} tokens/s, ${(flops / ms / 1e6).toFixed(0)} GFLOP/s, ` +
      `row-layers ${usage.rowLayersRun} run, ${usage.rowLayersSkipped} skipped [${info.level}, ${info.threads} threads]`,
  );
}
const [plain, swift] = engines;
console.log(
  `ratio ${(median(swift.times) / median(plain.times)).toFixed(3)} ` +
    `(FLOPs alone: ${(prefillFlops(swift.info.config, tokens) / prefillFlops(plain.info.config, tokens)).toFixed(3)})`,
);
for (const { engine } of engines) await engine.dispose();
