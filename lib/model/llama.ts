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
interface Half {
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

const forward: Forward = (b, m) => {
  const { config: c, fp8Activations } = m;
  const n = c.numKvLayers;
  const rope = b.constant('rope');
  const slots = b.batch('slotsT');
  const caches = numDistinctCaches(c);

  // What forks need of others' blocks, before any row of the step writes.
  b.copy_blocks({ from: b.batch('copySources'), to: b.batch('copyDestinations'), caches: b.caches(0, caches) });

  // Early layers, all rows.
  const all = half(b, m, 'T');
  const xT = b.buffer('f32', ['T', c.hiddenSize]);
  b.embed({ ids: b.batch('ids'), table: b.constant(c.tieWordEmbeddings ? 'head' : 'embed'), x: xT });
  for (let l = 0; l < n; l++) {
    b.layer(l, 'T');
    b.tap(`hidden.${l}`, xT);
    b.rms_norm({ x: xT, w: b.constant(`layers.${l}.input_norm`), out: all.a, eps: c.rmsNormEps });
    b.qkv_rope_cache({
      a: all.a,
      w: b.constant(`layers.${l}.qkv`),
      ...biasIf(b, c.bias.q || c.bias.k || c.bias.v, `layers.${l}.qkv_bias`),
      ...(c.qkNorm && {
        qNorm: b.constant(`layers.${l}.q_norm`),
        kNorm: b.constant(`layers.${l}.k_norm`),
        eps: c.rmsNormEps,
      }),
      rope,
      positions: all.rows.positions,
      slots,
      q: all.q,
      cache: b.cache(l),
      numHeads: c.numHeads,
      fp8Activations,
    });
    attentionAndMlp(b, m, all, l, xT);
  }
  b.tap(`hidden.${n}`, xT);

  // The boundary: keys and values of every later layer, from the stream of all rows.
  if (n < c.numLayers) {
    b.swiftkv_project({
      x: xT,
      norm: b.constant('norm_swiftkv'),
      w: b.constant('kv_swiftkv'),
      ...biasIf(b, c.bias.k || c.bias.v, 'kv_swiftkv_bias'),
      ...(c.qkNorm && { kNorm: b.constant('k_norm_swiftkv') }),
      rope,
      positions: all.rows.positions,
      slots,
      caches: b.caches(n, caches - n),
      eps: c.rmsNormEps,
      fp8Activations,
      bf16Activations: m.dtype === 'bf16',
    });
  }
  const xS = b.buffer('f32', ['S', c.hiddenSize]);
  b.gather_rows({ x: xT, index: b.batch('survivors'), out: xS });

  // Later layers, surviving rows: queries only.
  if (n < c.numLayers) {
    const surviving = half(b, m, 'S');
    for (let l = n; l < c.numLayers; l++) {
      b.layer(l, 'S');
      if (l > n) b.tap(`hidden.${l}`, xS);
      b.rms_norm({ x: xS, w: b.constant(`layers.${l}.input_norm`), out: surviving.a, eps: c.rmsNormEps });
      b.q_rope({
        a: surviving.a,
        w: b.constant(`layers.${l}.q`),
        ...biasIf(b, c.bias.q, `layers.${l}.q_bias`),
        ...(c.qkNorm && { qNorm: b.constant(`layers.${l}.q_norm`), eps: c.rmsNormEps }),
        rope,
        positions: surviving.rows.positions,
        q: surviving.q,
        fp8Activations,
      });
      attentionAndMlp(b, m, surviving, l, xS);
    }
    b.tap(`hidden.${c.numLayers}`, xS);
  }

  // Head, logit rows.
  const xR = b.buffer('f32', ['R', c.hiddenSize]);
  const a = b.buffer(m.dtype, ['R', c.hiddenSize]);
  const logits = b.buffer('f32', ['R', c.vocabSize]);
  b.gather_rows({ x: xS, index: b.batch('logitRows'), out: xR });
  b.rms_norm({ x: xR, w: b.constant('norm'), out: a, eps: c.rmsNormEps });
  b.tap('norm', a);
  b.linear({ a, w: b.constant('head'), y: logits });
  b.output('logits', logits);
  if (m.sample) {
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
};

/** From a layer's queries to its output: x += o(attention), x += down(silu(gate) * up). */
function attentionAndMlp(b: ProgramBuilder, m: ForwardOptions, half: Half, l: number, x: Ref<'buffer'>): void {
  const { config: c, fp8Activations } = m;
  const { a, q, o, gateUp, ff } = half;
  b.attention({ q, cache: b.cache(cacheOfLayer(c, l)), ...half.rows, o, scale: 1 / Math.sqrt(c.headDim) });
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

function half(b: ProgramBuilder, { config: c, dtype }: ForwardOptions, axis: 'T' | 'S'): Half {
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
