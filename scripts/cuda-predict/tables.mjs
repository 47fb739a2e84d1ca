// docs/cuda-predictions.md.
import { assumed, gpus } from './machines.mjs';
import { cacheBytes, models, variants, weightBytes } from './models.mjs';
import { decodeStep, prefillSeconds, rowOps, stepSeconds, throughput } from './steps.mjs';

export const sequences = [1, 32, 256];
export const contexts = [2048, 8192, 32768];
const rowCounts = [...sequences, assumed.chunk];

const table = (head, rows) =>
  [head, head.map((_, i) => (i === 0 ? '---' : '---:')), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

/** Three digits at most, so that no table claims more than it knows. */
export function rounded(x) {
  if (x === 0) return '0';
  const digits = Math.max(0, 1 - Math.floor(Math.log10(Math.abs(x))));
  return Number(x.toPrecision(3)).toLocaleString('en-US', { maximumFractionDigits: digits, minimumFractionDigits: 0 });
}

const microseconds = ({ seconds, bound }) => `${rounded(seconds * 1e6)} ${bound}`;
const k = (tokens) => `${tokens / 1024}k`;

function opTable(ops) {
  const columns = rowCounts.map((rows) => rowOps(ops, rows));
  return table(
    ['op', ...rowCounts.map((rows) => `${rows.toLocaleString('en-US')} rows`)],
    Object.keys(columns[0]).map((name) => [name, ...columns.map((c) => microseconds(c[name]))]),
  );
}

function attentionTable(ops) {
  const rows = [];
  for (const cache of ['bf16', 'fp8_e4m3']) {
    for (const n of sequences)
      rows.push([
        `decode, ${n} x 1 row, ${cache}`,
        ...contexts.map((c) => microseconds(ops.attention_decode(n, c, cache))),
      ]);
    rows.push([
      `prefill, last ${assumed.chunk.toLocaleString('en-US')} rows, ${cache}`,
      ...contexts.map((c) => microseconds(ops.attention_prefill(c - assumed.chunk, assumed.chunk, cache))),
    ]);
  }
  return table(['attention', ...contexts.map(k)], rows);
}

function memory(gpu, model, variant, n, context) {
  const bytes = weightBytes(model, variant) + cacheBytes(model, variant, n, context * (1 + assumed.outputs));
  return { gigabytes: bytes / 1e9, fits: bytes < gpu.memoryBytes };
}

function totals(gpu, model, opsOf) {
  const first = table(
    ['first token of one prompt, ms', ...contexts.map(k)],
    Object.entries(variants).map(([name, variant]) => [
      name,
      ...contexts.map((c) => rounded(prefillSeconds(opsOf, variant, c) * 1e3)),
    ]),
  );
  const rows = [];
  for (const n of sequences)
    for (const c of contexts) {
      const cells = [];
      let plain;
      for (const variant of Object.values(variants)) {
        const step = stepSeconds(decodeStep(opsOf, variant, n, c)).seconds;
        const rate = throughput(opsOf, variant, n, c).tokensPerSecond;
        plain ??= rate;
        const { gigabytes, fits } = memory(gpu, model, variant, n, c);
        cells.push(
          rounded(step * 1e3),
          `${rounded(rate)}${rate === plain ? '' : ` (${(rate / plain).toFixed(2)}x)`}`,
          `${rounded(gigabytes)}${fits ? '' : '*'}`,
        );
      }
      rows.push([`${n} x ${k(c)}`, ...cells]);
    }
  const short = ['plain', 'SwiftKV', '4-way fp8'];
  const head = ['requests', ...short.flatMap((name) => [`${name}: step ms`, 'tokens/s', 'GB'])];
  return `${first}\n\n${table(head, rows)}`;
}

function assumptions(compiler) {
  const percent = (x) => `${Math.round(x * 100)}%`;
  const gpuRows = Object.entries(gpus).map(([name, g]) => [
    name,
    g.multiprocessors,
    (g.dram / 1e12).toFixed(2),
    g.tensor / 1e12,
    percent(g.tensorReached),
    g.l2 / 1e12,
    rounded(g.latency * 1e6),
  ]);
  return [
    '# Predicted times of the CUDA kernels',
    'Made by `npm run cuda:predict`; do not edit. **Nothing here was measured.** The numbers say what the kernels as they are compiled ' +
      'could take if the assumptions hold, so that a measurement on a GPU has something to disagree with, and which bound is worth work.',
    '## How',
    `The time of a kernel is the longest of: operations of the tensor cores, bytes of memory, bytes of the L2 cache, and bytes on their way (latency); plus ${assumed.ramp * 1e6} µs to start ` +
      'and to end. Tiles, splits and numbers of blocks are those that the launchers choose (`gemm_plan.h`, `attention_plan.h`, asked by ' +
      `\`scripts/cuda-predict/plans.cpp\`). Blocks of a multiprocessor come from registers and shared memory as compiled by nvcc ${compiler} (\`npm run cuda:report\`): ` +
      'they decide how many bytes are on their way at a time. The multiprocessor with the most blocks decides the time of computing. ' +
      'Beside each time stands what bounds it.',
    'Known, from data sheets: multiprocessors, memory, tensor-core peak. Assumed, everything else:',
    `- A product of bf16 reaches ${percent(assumed.productShare)} of what mma.sync gives, attention ${percent(assumed.attentionShare)}; mma.sync gives the share of the peak in the table. ` +
      'Queries of attention are f32, which is two products of bf16 for one; in decode, tiles of 16 rows are computed for one token of a group of heads.',
    `- Memory gives ${percent(assumed.dramShare)} of its peak to long reads. Weights are read once per band of 16 tiles of rows; activations and keys that blocks share come from the L2 cache after the first read.`,
    `- Prompts are computed in steps of ${assumed.chunk.toLocaleString('en-US')} rows and alone, decoding in steps of all requests together. Launching a kernel takes ${assumed.issue * 1e6} µs of the host, without CUDA graphs; a step takes at least so many.`,
    `- A request has ${percent(assumed.outputs)} of its prompt's length as output, sampled greedily: the block of a row reads the logits at ${assumed.readOfOneBlock / 1e9} GB/s. Sampling by top-p reads them and their weights about 20 times as long (84 bytes a token of the vocabulary instead of 4).`,
    '- Weights are bf16. Memory is no limit in the tables: where weights and caches of all requests together exceed 80 GB the number of GB has a star, and several GPUs or fewer requests at a time would be needed. ' +
      'The 70B model never fits one GPU in bf16; its numbers are what one would take if it did.',
    table(
      [
        'GPU',
        'multiprocessors',
        'memory TB/s',
        'bf16 TFLOPS',
        'of these by mma.sync',
        'L2 TB/s (assumed)',
        'latency µs (assumed)',
      ],
      gpuRows,
    ),
  ].join('\n\n');
}

/** @param opsOf(gpu, model): an Ops */
export function document(opsOf, compiler) {
  const parts = [assumptions(compiler)];
  for (const [gpuName, gpu] of Object.entries(gpus))
    for (const [modelName, model] of Object.entries(models)) {
      const ops = opsOf(gpu, model);
      parts.push(
        `## ${modelName} on ${gpuName}`,
        'One call of each op, µs and bound:',
        opTable(ops),
        'Attention of one layer by tokens of the context, µs and bound:',
        attentionTable(ops),
        'Requests: time to the first token of one prompt alone; then a decode step of so many requests with so many tokens each, prompt and ' +
          'output tokens a second until all are answered (against plain), and GB of weights and caches.',
        totals(gpu, model, ops),
      );
    }
  return `${parts.join('\n\n')}\n`;
}
