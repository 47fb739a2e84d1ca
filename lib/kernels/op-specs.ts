// The same signatures as data, for checking calls made without types. The compiler keeps both in step.

import type { OpAttrs, OpName, OpOperands } from './op-signatures.ts';
import type { CacheRef } from './paged-kv-cache.ts';
import type { SamplerTable } from './sampler-table.ts';
import type { Tensor } from './tensor.ts';
import { trainOpSpecs } from './train-op-specs.ts';

type KindOf<T> = T extends Tensor
  ? 'tensor'
  : T extends CacheRef
    ? 'cache'
    : T extends SamplerTable
      ? 'samplers'
      : T extends readonly CacheRef[]
        ? 'caches'
        : never;

export type OperandKind = 'tensor' | 'cache' | 'caches' | 'samplers';
type IsOptional<O, N extends keyof O> = Record<never, never> extends Pick<O, N> ? true : false;

type OperandSpecs<O> = {
  [N in keyof O]-?: IsOptional<O, N> extends true ? `${KindOf<NonNullable<O[N]>>}?` : KindOf<O[N]>;
};
type AttrSpecs<A> = {
  [N in keyof A]-?: NonNullable<A[N]> extends number
    ? IsOptional<A, N> extends true
      ? 'number?'
      : 'number'
    : IsOptional<A, N> extends true
      ? 'boolean?'
      : 'boolean';
};

/** How the arguments of some ops are checked. */
export type OpSpecs<K extends OpName> = {
  readonly [N in K]: { operands: OperandSpecs<OpOperands<N>>; attrs: AttrSpecs<OpAttrs<N>> };
};

const attention = {
  operands: {
    q: 'tensor',
    cache: 'cache',
    positions: 'tensor',
    queryStart: 'tensor',
    contextLen: 'tensor',
    tableRow: 'tensor',
    blockTables: 'tensor',
    o: 'tensor',
  },
  attrs: { scale: 'number?' },
} as const;

export const opSpecs: OpSpecs<OpName> = {
  embed: { operands: { ids: 'tensor', table: 'tensor', x: 'tensor' }, attrs: {} },
  rms_norm: { operands: { x: 'tensor', w: 'tensor', out: 'tensor' }, attrs: { eps: 'number' } },
  linear: {
    operands: { a: 'tensor', w: 'tensor', bias: 'tensor?', y: 'tensor' },
    attrs: { accumulate: 'boolean?', fp8Activations: 'boolean?' },
  },
  qkv_rope_cache: {
    operands: {
      a: 'tensor',
      w: 'tensor',
      bias: 'tensor?',
      qNorm: 'tensor?',
      kNorm: 'tensor?',
      rope: 'tensor',
      positions: 'tensor',
      slots: 'tensor',
      q: 'tensor',
      cache: 'cache',
    },
    attrs: { numHeads: 'number', eps: 'number?', fp8Activations: 'boolean?' },
  },
  q_rope: {
    operands: {
      a: 'tensor',
      w: 'tensor',
      bias: 'tensor?',
      qNorm: 'tensor?',
      rope: 'tensor',
      positions: 'tensor',
      q: 'tensor',
    },
    attrs: { eps: 'number?', fp8Activations: 'boolean?' },
  },
  swiftkv_project: {
    operands: {
      x: 'tensor',
      norm: 'tensor',
      w: 'tensor',
      bias: 'tensor?',
      kNorm: 'tensor?',
      rope: 'tensor',
      positions: 'tensor',
      slots: 'tensor',
      caches: 'caches',
    },
    attrs: { eps: 'number', fp8Activations: 'boolean?', bf16Activations: 'boolean?' },
  },
  attention,
  attention_decode: attention,
  attention_prefill: attention,
  silu_mul: { operands: { gateUp: 'tensor', out: 'tensor' }, attrs: {} },
  gather_rows: { operands: { x: 'tensor', index: 'tensor', out: 'tensor' }, attrs: {} },
  logprobs: {
    operands: {
      logits: 'tensor',
      ids: 'tensor',
      rows: 'tensor?',
      chosen: 'tensor',
      rank: 'tensor',
      topIds: 'tensor?',
      topLogprobs: 'tensor?',
    },
    attrs: {},
  },
  sample: {
    operands: {
      logits: 'tensor',
      samplers: 'samplers',
      slots: 'tensor',
      outputPositions: 'tensor',
      forcedIds: 'tensor?',
      bitmask: 'tensor?',
      maskRows: 'tensor?',
      ids: 'tensor',
    },
    attrs: {},
  },
  kv_quantize: { operands: { k: 'tensor', v: 'tensor', slots: 'tensor', cache: 'cache' }, attrs: {} },
  kv_dequantize: { operands: { slots: 'tensor', cache: 'cache', k: 'tensor', v: 'tensor' }, attrs: {} },
  copy_blocks: { operands: { from: 'tensor', to: 'tensor', caches: 'caches' }, attrs: {} },
  quantize_rows: { operands: { a: 'tensor', codes: 'tensor', scales: 'tensor' }, attrs: {} },
  rope_table: { operands: { invFreq: 'tensor', table: 'tensor' }, attrs: {} },
  copy_rows: { operands: { in: 'tensor', out: 'tensor' }, attrs: {} },
  ...trainOpSpecs,
};
