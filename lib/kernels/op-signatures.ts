// The ops, their operands and attributes: shapes, dtypes and layouts as documentation and as types.
//
// Symbols: rows = rows of the call (may be 0), d = model width, Hq/Hk = query/KV heads, hd = head width, ff = MLP width,
// V = vocabulary, P = positions, B = sequences. "act" is f32 or bf16. A weight is [n, k] in the `panels` layout, with
// y = a W^T; its dtype is f32 with f32 activations, bf16 with bf16 ones, or fp8_e4m3, int8 or int4 with either.
// With fp8_e4m3 weights `fp8Activations` quantizes the rows to fp8 too, with a dynamic scale each (default false). int8
// and int4 weights quantize the rows to int8 in groups of 32.
// Sums are f32. An output row's bits depend on its own inputs only, never on the other rows or on the thread count.

import type { CacheRef } from './paged-kv-cache.ts';
import type { SamplerTable } from './sampler-table.ts';
import type { Tensor } from './tensor.ts';
import type { TrainOpSignatures } from './train-op-signatures.ts';

// biome-ignore lint/complexity/noBannedTypes: an op without attributes takes an empty object or nothing.
type NoAttrs = {};

export interface OpSignatures extends TrainOpSignatures {
  /** x[i] = table[ids[i]] as f32. An id outside the table is an error. */
  embed: {
    operands: {
      /** [rows] i32 */
      ids: Tensor;
      /** [V, d] f32, bf16 or f16 in either layout, fp8_e4m3, int8 or int4 in panels (tied embeddings are stored once, as the head's panels) */
      table: Tensor;
      /** out: [rows, d] f32 */
      x: Tensor;
    };
    attrs: NoAttrs;
  };

  /** out = w * x / sqrt(mean(x^2) + eps), computed in f32 and rounded once. */
  rms_norm: {
    operands: {
      /** [rows, d] f32 */
      x: Tensor;
      /** [d] f32 */
      w: Tensor;
      /** out: [rows, d] act */
      out: Tensor;
    };
    attrs: { eps: number };
  };

  /** y = a W^T + bias; with `accumulate` y += a W^T + bias, and y is the f32 residual stream. */
  linear: {
    operands: {
      /** [rows, k] act, of the weight's dtype where that is f32 or bf16 */
      a: Tensor;
      /** [n, k] weight */
      w: Tensor;
      /** [n] f32 */
      bias?: Tensor;
      /** out: [rows, n] act; f32 with accumulate */
      y: Tensor;
    };
    attrs: { accumulate?: boolean; fp8Activations?: boolean };
  };

  /**
   * Projects q, k and v at once, adds the bias, rotates q and k (rotate-half RoPE), stores q and writes k, v to pages. With
   * qNorm or kNorm (Qwen3) each head of q or k goes through rms_norm, in f32, before it is rotated.
   */
  qkv_rope_cache: {
    operands: {
      /** [rows, d] act */
      a: Tensor;
      /** [(Hq + 2 Hk) hd, d] weight: q rows, then k, then v */
      w: Tensor;
      /** [(Hq + 2 Hk) hd] f32 */
      bias?: Tensor;
      /** [hd] f32: weights of the norm of every query head */
      qNorm?: Tensor;
      /** [hd] f32: weights of the norm of every key head */
      kNorm?: Tensor;
      /** [P, hd] f32 from `rope_table`; every position must be below P */
      rope: Tensor;
      /** [rows] i32 */
      positions: Tensor;
      /** [rows] i32: block * 16 + offset; -1 writes nothing */
      slots: Tensor;
      /** out: [rows, Hq, hd] act */
      q: Tensor;
      /** out: k and v at the slots */
      cache: CacheRef;
    };
    /** eps: of qNorm and kNorm, above 0; needed with either */
    attrs: { numHeads: number; eps?: number; fp8Activations?: boolean };
  };

  /** q = RoPE(a W^T + bias); with qNorm each head goes through rms_norm, in f32, before it is rotated. */
  q_rope: {
    operands: {
      /** [rows, d] act */
      a: Tensor;
      /** [Hq hd, d] weight */
      w: Tensor;
      /** [Hq hd] f32 */
      bias?: Tensor;
      /** [hd] f32: weights of the norm of every head */
      qNorm?: Tensor;
      /** [P, hd] f32 */
      rope: Tensor;
      /** [rows] i32 */
      positions: Tensor;
      /** out: [rows, Hq, hd] act */
      q: Tensor;
    };
    /** eps: of qNorm, above 0; needed with it */
    attrs: { eps?: number; fp8Activations?: boolean };
  };

  /**
   * SwiftKV's SingleInputKV: norms x once, then projects K and V of all later cache groups in one matrix product, rotates
   * K, quantizes and scatters to pages. arXiv 2410.03960.
   */
  swiftkv_project: {
    operands: {
      /** [rows, d] f32: the residual stream that enters the first later layer */
      x: Tensor;
      /** [d] f32 */
      norm: Tensor;
      /** [groups * 2 Hk hd, d] weight: for each group its k rows, then its v rows */
      w: Tensor;
      /** [groups * 2 Hk hd] f32 */
      bias?: Tensor;
      /** [groups, hd] f32: each group's weights of the norm of its key heads, before they are rotated */
      kNorm?: Tensor;
      /** [P, hd] f32 */
      rope: Tensor;
      /** [rows] i32 */
      positions: Tensor;
      /** [rows] i32; -1 writes nothing */
      slots: Tensor;
      /** out: one cache per group */
      caches: readonly CacheRef[];
    };
    /** eps: of norm and kNorm, with kNorm above 0. bf16Activations: the normalised rows that meet fp8_e4m3 weights are bf16; default f32 */
    attrs: { eps: number; fp8Activations?: boolean; bf16Activations?: boolean };
  };

  /**
   * o = softmax(scale q K^T) V over the pages of a cache: row i sees the keys 0 .. positions[i] of its sequence. Sends
   * sequences with one query row to `attention_decode` and the others to `attention_prefill`: the bits of a row are the
   * same in both. `describeRows` makes the description.
   */
  attention: { operands: AttentionOperands; attrs: AttentionAttrs };
  /** `attention` of any number of query rows by the kernel that is fast for one row per sequence. */
  attention_decode: { operands: AttentionOperands; attrs: AttentionAttrs };
  /** `attention` of any number of query rows by the kernel that is fast for many rows per sequence. */
  attention_prefill: { operands: AttentionOperands; attrs: AttentionAttrs };

  /** out = silu(gate) * up. */
  silu_mul: {
    operands: {
      /** [rows, 2 ff] act: gate, then up */
      gateUp: Tensor;
      /** out: [rows, ff] act */
      out: Tensor;
    };
    attrs: NoAttrs;
  };

  /** out[i] = x[index[i]]. */
  gather_rows: {
    operands: {
      /** [source rows, d] f32 */
      x: Tensor;
      /** [rows] i32 */
      index: Tensor;
      /** out: [rows, d] f32 */
      out: Tensor;
    };
    attrs: NoAttrs;
  };

  /**
   * Log-softmax of each row, reduced to the chosen token's value and rank and the k most likely tokens. Without `rows`
   * the source rows are the rows.
   */
  logprobs: {
    operands: {
      /** [source rows, V] f32 */
      logits: Tensor;
      /** [source rows] i32: the chosen tokens; a negative one (no token) gives NaN and rank 0 */
      ids: Tensor;
      /** [rows] i32: which source rows */
      rows?: Tensor;
      /** out: [rows] f32 */
      chosen: Tensor;
      /** out: [rows] i32: tokens strictly more likely than the chosen one, plus 1 */
      rank: Tensor;
      /** out: [rows, k] i32, descending by probability, ties by lower id; together with topLogprobs */
      topIds?: Tensor;
      /** out: [rows, k] f32 */
      topLogprobs?: Tensor;
    };
    attrs: NoAttrs;
  };

  /**
   * Picks the next token of each row. -1: the row holds NaN or +Infinity, or nothing but -Infinity. -2: bitmask, bias and
   * ending tokens leave none of its tokens. Each token drawn is then counted in its slot, if a penalty needs it: rows of
   * one slot in one call are all drawn from the counts before it.
   */
  sample: {
    operands: {
      /** [rows, V] f32 */
      logits: Tensor;
      /** of vocabSize V */
      samplers: SamplerTable;
      /** [rows] i32: slot of the sampler table */
      slots: Tensor;
      /** [rows] i32: index of this token among its sequence's outputs */
      outputPositions: Tensor;
      /** [rows] i32: the answer of the row, whatever its slot says, and not counted; -1 draws */
      forcedIds?: Tensor;
      /** [masks, ceil(V / 32)] i32: bit id % 32 of word id / 32 allows the token; [rows, ...] without maskRows */
      bitmask?: Tensor;
      /** [rows] i32: the row of the bitmask, -1 for none */
      maskRows?: Tensor;
      /** out: [rows] i32 */
      ids: Tensor;
    };
    attrs: NoAttrs;
  };

  /** Writes rows of k and v to the pages of a cache, in its dtype and with its scales. */
  kv_quantize: {
    operands: {
      /** [rows, Hk, hd] f32 */
      k: Tensor;
      /** [rows, Hk, hd] f32 */
      v: Tensor;
      /** [rows] i32; -1 writes nothing */
      slots: Tensor;
      /** out */
      cache: CacheRef;
    };
    attrs: NoAttrs;
  };

  /** Reads rows of k and v back from the pages of a cache, scales applied. */
  kv_dequantize: {
    operands: {
      /** [rows] i32 */
      slots: Tensor;
      cache: CacheRef;
      /** out: [rows, Hk, hd] f32 */
      k: Tensor;
      /** out: [rows, Hk, hd] f32 */
      v: Tensor;
    };
    attrs: NoAttrs;
  };

  /** Block to[i] = block from[i], in every cache given. */
  copy_blocks: {
    operands: {
      /** [pairs] i32 */
      from: Tensor;
      /** [pairs] i32 */
      to: Tensor;
      /** in and out */
      caches: readonly CacheRef[];
    };
    attrs: NoAttrs;
  };

  /** Per row: scale = max|a| / 448 (1 if the row is 0), codes = fp8_e4m3(a / scale). */
  quantize_rows: {
    operands: {
      /** [rows, dim] act */
      a: Tensor;
      /** out: [rows, dim] u8 */
      codes: Tensor;
      /** out: [rows] f32 */
      scales: Tensor;
    };
    attrs: NoAttrs;
  };

  /** table[p] = cos(p f_i) for i < hd / 2, then sin(p f_i); the angle is rounded to f32 first. */
  rope_table: {
    operands: {
      /** [hd / 2] f32 */
      invFreq: Tensor;
      /** out: [P, hd] f32 */
      table: Tensor;
    };
    attrs: NoAttrs;
  };

  /** out = in, converted. */
  copy_rows: {
    operands: {
      /** [rows, dim] act */
      in: Tensor;
      /** out: [rows, dim] f32 */
      out: Tensor;
    };
    attrs: NoAttrs;
  };
}

export interface AttentionOperands {
  /** [rows, Hq, hd] act; Hq is a multiple of Hk, and query head h reads KV head h / (Hq / Hk) */
  q: Tensor;
  cache: CacheRef;
  /** [rows] i32 */
  positions: Tensor;
  /** [B + 1] i32, ascending from 0 to rows */
  queryStart: Tensor;
  /** [B] i32: keys of the sequence that exist */
  contextLen: Tensor;
  /** [B] i32: row of blockTables that the sequence uses */
  tableRow: Tensor;
  /** [tables, stride] i32: block ids */
  blockTables: Tensor;
  /** out: [rows, Hq hd] act */
  o: Tensor;
}

export interface AttentionAttrs {
  /** 1 / sqrt(hd) by default. */
  scale?: number;
}

export type OpName = keyof OpSignatures;
export type OpOperands<K extends OpName> = OpSignatures[K]['operands'];
export type OpAttrs<K extends OpName> = OpSignatures[K]['attrs'];

/** An op's arguments; attributes may be left out where all of them are optional. */
export type OpArguments<K extends OpName> =
  Record<never, never> extends OpAttrs<K>
    ? [operands: OpOperands<K>, attrs?: OpAttrs<K>]
    : [operands: OpOperands<K>, attrs: OpAttrs<K>];
