// Llama and its SwiftKV form. `forward` is the whole model, op by op, in the order in which it runs.
//
// Rows: T = all rows of the step, S = the surviving rows (whose final hidden state someone needs), R = logit rows,
// P = logit rows whose log-probabilities someone wants, C = blocks that forked sequences copy: none, and the op returns
// at once.
// Layers l < n are ordinary and run on T. Keys and values of all later layers come from the stream that enters layer n,
// at once; so layers l >= n run on S only, and each group of g of them reads one cache. A plain Llama is n = L.

import type { Architecture } from './architecture.ts';
import { cacheOfLayer, numDistinctCaches } from './config.ts';
import { parseDecoderConfig } from './decoder-config.ts';
import type { Forward, ForwardOptions } from './forward.ts';
import type { ProgramBuilder, Ref, RowsRefs } from './program-builder.ts';
import { decoderWeights } from './weights.ts';

/** One half of the model: its rows, and the buffers that its layers share. */
export interface Half {
  axis: 'T' | 'S';
  rows: RowsRefs;
  a: Ref<'buffer'>; // [rows, d] normalised input of a matrix product
  // [rows, Hq, hd] f32 also where K and V are bf16: rounding the queries too loses a near-tie of the golden greedy
  // continuations. The price: attention multiplies in f32, at half the rate of bf16 pairs.
  q: Ref<'buffer'>;
  o: Ref<'buffer'>; // [rows, Hq hd] attention's output
  gateUp: Ref<'buffer'>; // [rows, 2 ff] f32
  ff: Ref<'buffer'>; // [rows, ff]
}

type LayerOptions = Pick<ForwardOptions, 'config' | 'dtype' | 'fp8Activations'>;

const forward: Forward = (b, m) => {
  const { config: c } = m;
  const n = c.numKvLayers;
  const caches = numDistinctCaches(c);

  // What forks need of others' blocks, before any row of the step writes.
  b.copy_blocks({ from: b.batch('copySources'), to: b.batch('copyDestinations'), caches: b.caches(0, caches) });

  // Early layers, all rows.
  const all = half(b, m, 'T');
  const xT = embedRows(b, m);
  for (let l = 0; l < n; l++) ordinaryLayer(b, m, all, l, xT, b.cache(l));
  b.tap(`hidden.${n}`, xT);

  // The boundary: keys and values of every later layer, from the stream of all rows.
  if (n < c.numLayers) projectLaterCaches(b, m, xT, b.caches(n, caches - n));
  const xS = b.buffer('f32', ['S', c.hiddenSize]);
  b.gather_rows({ x: xT, index: b.batch('survivors'), out: xS });

  // Later layers, surviving rows: queries only.
  if (n < c.numLayers) {
    const surviving = half(b, m, 'S');
    for (let l = n; l < c.numLayers; l++) laterLayer(b, m, surviving, l, xS, b.cache(cacheOfLayer(c, l)));
    b.tap(`hidden.${c.numLayers}`, xS);
  }

  // Head, logit rows.
  const xR = b.buffer('f32', ['R', c.hiddenSize]);
  const a = b.buffer(m.dtype, ['R', c.hiddenSize]);
  const logits = b.buffer('f32', ['R', c.vocabSize]);
  b.gather_rows({ x: xS, index: b.batch('logitRows'), out: xR });
  finalNorm(b, m, xR, a);
  b.tap('norm', a);
  b.linear({ a, w: b.constant('head'), y: logits });
  b.output('logits', logits);
  if (m.sample) sampleRows(b, logits);
};

/** The residual stream that enters the first layer: [T, d]. */
export function embedRows(b: ProgramBuilder, { config: c }: LayerOptions): Ref<'buffer'> {
  const x = b.buffer('f32', ['T', c.hiddenSize]);
  b.embed({ ids: b.batch('ids'), table: b.constant(c.tieWordEmbeddings ? 'head' : 'embed'), x });
  return x;
}

/** A layer with keys and values of its own, which it writes to `cache`. */
export function ordinaryLayer(
  b: ProgramBuilder,
  m: LayerOptions,
  half: Half,
  l: number,
  x: Ref<'buffer'>,
  cache: Ref<'cache'>,
): void {
  const { config: c, fp8Activations } = m;
  b.layer(l, half.axis);
  b.tap(`hidden.${l}`, x);
  b.rms_norm({ x, w: b.constant(`layers.${l}.input_norm`), out: half.a, eps: c.rmsNormEps });
  b.qkv_rope_cache({
    a: half.a,
    w: b.constant(`layers.${l}.qkv`),
    ...biasIf(b, c.bias.q || c.bias.k || c.bias.v, `layers.${l}.qkv_bias`),
    ...(c.qkNorm && {
      qNorm: b.constant(`layers.${l}.q_norm`),
      kNorm: b.constant(`layers.${l}.k_norm`),
      eps: c.rmsNormEps,
    }),
    rope: b.constant('rope'),
    positions: half.rows.positions,
    slots: b.batch('slotsT'),
    q: half.q,
    cache,
    numHeads: c.numHeads,
    fp8Activations,
  });
  attentionAndMlp(b, m, half, l, x, cache);
}

/** Keys and values of every later layer, from the stream that enters the first of them. */
export function projectLaterCaches(
  b: ProgramBuilder,
  { config: c, dtype, fp8Activations }: LayerOptions,
  x: Ref<'buffer'>,
  caches: Ref<'caches'>,
): void {
  b.swiftkv_project({
    x,
    norm: b.constant('norm_swiftkv'),
    w: b.constant('kv_swiftkv'),
    ...biasIf(b, c.bias.k || c.bias.v, 'kv_swiftkv_bias'),
    ...(c.qkNorm && { kNorm: b.constant('k_norm_swiftkv') }),
    rope: b.constant('rope'),
    positions: b.batch('positionsT'),
    slots: b.batch('slotsT'),
    caches,
    eps: c.rmsNormEps,
    fp8Activations,
    bf16Activations: dtype === 'bf16',
  });
}

/** A layer that has queries only and reads the cache of its group. */
export function laterLayer(
  b: ProgramBuilder,
  m: LayerOptions,
  half: Half,
  l: number,
  x: Ref<'buffer'>,
  cache: Ref<'cache'>,
): void {
  const { config: c, fp8Activations } = m;
  b.layer(l, half.axis);
  if (l > c.numKvLayers) b.tap(`hidden.${l}`, x);
  b.rms_norm({ x, w: b.constant(`layers.${l}.input_norm`), out: half.a, eps: c.rmsNormEps });
  b.q_rope({
    a: half.a,
    w: b.constant(`layers.${l}.q`),
    ...biasIf(b, c.bias.q, `layers.${l}.q_bias`),
    ...(c.qkNorm && { qNorm: b.constant(`layers.${l}.q_norm`), eps: c.rmsNormEps }),
    rope: b.constant('rope'),
    positions: half.rows.positions,
    q: half.q,
    fp8Activations,
  });
  attentionAndMlp(b, m, half, l, x, cache);
}

/** The input of the head. */
export function finalNorm(b: ProgramBuilder, { config: c }: LayerOptions, x: Ref<'buffer'>, out: Ref<'buffer'>): void {
  b.rms_norm({ x, w: b.constant('norm'), out, eps: c.rmsNormEps });
}

function sampleRows(b: ProgramBuilder, logits: Ref<'buffer'>): void {
  b.sample({
    logits,
    samplers: b.samplers(),
    slots: b.batch('samplerSlots'),
    outputPositions: b.batch('outputPositions'),
    forcedIds: b.batch('forcedIds'),
    bitmask: b.batch('masks'),
    maskRows: b.batch('maskRows'),
    ids: b.batch('sampledIds'),
  });
  b.logprobs({
    logits,
    ids: b.batch('sampledIds'),
    rows: b.batch('logprobRows'),
    chosen: b.batch('chosenLogprobs'),
    rank: b.batch('ranks'),
    topIds: b.batch('topIds'),
    topLogprobs: b.batch('topLogprobs'),
  });
}

/** From a layer's queries to its output: x += o(attention), x += down(silu(gate) * up). */
function attentionAndMlp(
  b: ProgramBuilder,
  { config: c, fp8Activations }: LayerOptions,
  half: Half,
  l: number,
  x: Ref<'buffer'>,
  cache: Ref<'cache'>,
): void {
  const { a, q, o, gateUp, ff } = half;
  b.attention({ q, cache, ...half.rows, o, scale: 1 / Math.sqrt(c.headDim) });
  b.linear({
    a: o,
    w: b.constant(`layers.${l}.o`),
    ...biasIf(b, c.bias.o, `layers.${l}.o_bias`),
    y: x,
    accumulate: true,
    fp8Activations,
  });
  b.rms_norm({ x, w: b.constant(`layers.${l}.post_norm`), out: a, eps: c.rmsNormEps });
  b.linear({
    a,
    w: b.constant(`layers.${l}.gate_up`),
    ...biasIf(b, c.bias.mlp, `layers.${l}.gate_up_bias`),
    y: gateUp,
    fp8Activations,
  });
  b.silu_mul({ gateUp, out: ff });
  b.linear({
    a: ff,
    w: b.constant(`layers.${l}.down`),
    ...biasIf(b, c.bias.mlp, `layers.${l}.down_bias`),
    y: x,
    accumulate: true,
    fp8Activations,
  });
}

/** Rows of an axis, and buffers for its layers. */
export function half(b: ProgramBuilder, { config: c, dtype }: LayerOptions, axis: 'T' | 'S'): Half {
  return {
    axis,
    rows: {
      positions: b.batch(`positions${axis}`),
      queryStart: b.batch(`queryStart${axis}`),
      contextLen: b.batch(`contextLen${axis}`),
      tableRow: b.batch(`tableRow${axis}`),
      blockTables: b.batch('blockTables'),
    },
    a: b.buffer(dtype, [axis, c.hiddenSize]),
    q: b.buffer('f32', [axis, c.numHeads, c.headDim]),
    o: b.buffer(dtype, [axis, c.numHeads * c.headDim]),
    gateUp: b.buffer('f32', [axis, 2 * c.intermediateSize]),
    ff: b.buffer(dtype, [axis, c.intermediateSize]),
  };
}

function biasIf(b: ProgramBuilder, present: boolean, key: Parameters<ProgramBuilder['constant']>[0]) {
  return present ? { bias: b.constant(key) } : {};
}

export const llama: Architecture = {
  modelTypes: ['llama', 'llama_swiftkv'],
  bosTokenId: 1,
  eosTokenId: 2,
  parseConfig(r) {
    const attention = r.boolean('attention_bias', false);
    return parseDecoderConfig(
      r,
      {
        vocabSize: 32000,
        hiddenSize: 4096,
        intermediateSize: 11008,
        numLayers: 32,
        numHeads: 32,
        numKvHeads: null,
        headDim: null,
        rmsNormEps: 1e-6,
        ropeTheta: 10000,
        maxPositions: 2048,
        useSlidingWindow: true,
      },
      { bias: { q: attention, k: attention, v: attention, o: attention, mlp: r.boolean('mlp_bias', false) } },
    );
  },
  weights: decoderWeights,
  forward,
};
