// Steps and requests: which ops run how often, and what they add up to.
import { assumed } from './machines.mjs';
import { halves } from './models.mjs';

const f32 = 4;

/** The kernels of `layers` layers without their attention: [op, times, result]. */
function layerOps(ops, rows, layers, own, cache) {
  const { dim, heads, headDim, ff } = ops.model;
  return [
    ['rms_norm', 2 * layers, ops.rms_norm(rows)],
    own ? ['qkv_rope_cache', layers, ops.qkv_rope_cache(rows, cache)] : ['q_rope', layers, ops.q_rope(rows)],
    ['linear o', layers, ops.linear(rows, dim, heads * headDim, f32, true)],
    ['linear gate_up', layers, ops.linear(rows, 2 * ff, dim, f32)],
    ['silu_mul', layers, ops.silu_mul(rows)],
    ['linear down', layers, ops.linear(rows, dim, ff, f32, true)],
  ];
}

function headOps(ops, rows) {
  const { dim, vocab } = ops.model;
  return [
    ['gather_rows', 1, ops.gather_rows(rows)],
    ['rms_norm', 1, ops.rms_norm(rows)],
    ['linear head', 1, ops.linear(rows, vocab, dim, f32)],
    ['sample', 1, ops.sample_greedy(rows)],
  ];
}

/** A step's ops: `early` rows in the layers with keys and values of their own, `late` rows in the others. */
function stepOps(ops, variant, { early, late, logits, attention }) {
  const { early: earlyLayers, late: lateLayers, groups } = halves(ops.model, variant);
  const cache = variant.cache;
  const list = [
    ['embed', 1, ops.embed(early)],
    ...layerOps(ops, early, earlyLayers, true, cache),
    ['attention', earlyLayers, attention.early],
  ];
  if (lateLayers > 0) list.push(['swiftkv_project', 1, ops.swiftkv_project(early, groups, cache)]);
  if (late > 0) {
    list.push(['gather_rows', 1, ops.gather_rows(late)]);
    if (lateLayers > 0) {
      list.push(...layerOps(ops, late, lateLayers, false, cache), ['attention', lateLayers, attention.late]);
    }
  }
  if (logits > 0) list.push(...headOps(ops, logits));
  return list;
}

/** Seconds of a step: its kernels one after the other, or the host that launches them. */
export function stepSeconds(list) {
  const kernels = list.reduce((sum, [, times, one]) => sum + times * (one.kernels ?? 1), 0);
  const device = list.reduce((sum, [, times, one]) => sum + times * one.seconds, 0);
  return { seconds: Math.max(device, kernels * assumed.issue), device, kernels };
}

export function decodeStep(ops, variant, sequences, tokens) {
  const attention = ops.attention_decode(sequences, tokens, variant.cache);
  return stepOps(ops, variant, {
    early: sequences,
    late: sequences,
    logits: sequences,
    attention: { early: attention, late: attention },
  });
}

/** Seconds until the first token of one prompt of `tokens`: its chunks, of which the last has one surviving row. */
export function prefillSeconds(ops, variant, tokens) {
  let seconds = 0;
  for (let first = 0; first < tokens; first += assumed.chunk) {
    const rows = Math.min(assumed.chunk, tokens - first);
    const last = first + rows === tokens;
    const early = ops.attention_prefill(first, rows, variant.cache);
    const late = last ? ops.attention_decode(1, tokens, variant.cache) : undefined;
    const list = stepOps(ops, variant, {
      early: rows,
      late: last ? 1 : 0,
      logits: last ? 1 : 0,
      attention: { early, late },
    });
    seconds += stepSeconds(list).seconds;
  }
  return seconds;
}

/** Prompt and output tokens a second of `sequences` equal requests: prompts one after the other, then decoding together. */
export function throughput(ops, variant, sequences, tokens) {
  const outputs = tokens * assumed.outputs;
  const prompts = sequences * prefillSeconds(ops, variant, tokens);
  const decode = stepSeconds(decodeStep(ops, variant, sequences, Math.round(tokens + outputs / 2))).seconds * outputs;
  return {
    tokensPerSecond: (sequences * (tokens + outputs)) / (prompts + decode),
    prefillShare: prompts / (prompts + decode),
  };
}

/** Every op but attention, which does not depend on the context: by name, for rows of a step. */
export function rowOps(ops, rows) {
  const { dim, heads, headDim, ff, vocab, layers } = ops.model;
  return {
    embed: ops.embed(rows),
    rms_norm: ops.rms_norm(rows),
    qkv_rope_cache: ops.qkv_rope_cache(rows, 'bf16'),
    q_rope: ops.q_rope(rows),
    'swiftkv_project, 50%': ops.swiftkv_project(rows, layers / 2, 'bf16'),
    'swiftkv_project, 50%, 4-way, fp8': ops.swiftkv_project(rows, layers / 8, 'fp8_e4m3'),
    'linear o': ops.linear(rows, dim, heads * headDim, f32, true),
    'linear gate_up': ops.linear(rows, 2 * ff, dim, f32),
    silu_mul: ops.silu_mul(rows),
    'linear down': ops.linear(rows, dim, ff, f32, true),
    gather_rows: ops.gather_rows(rows),
    'linear head': ops.linear(rows, vocab, dim, f32),
    'sample, greedy': ops.sample_greedy(rows),
  };
}
