// The signatures of training's ops as data.

import type { OpSpecs } from './op-specs.ts';
import type { TrainOpSignatures } from './train-op-signatures.ts';

export const trainOpSpecs: OpSpecs<keyof TrainOpSignatures> = {
  cast_rows: { operands: { in: 'tensor', out: 'tensor' }, attrs: {} },
  rms_norm_backward: {
    operands: { x: 'tensor', w: 'tensor', dout: 'tensor', dx: 'tensor', dw: 'tensor?' },
    attrs: { eps: 'number' },
  },
  linear_backward: { operands: { a: 'tensor', dy: 'tensor', dw: 'tensor', dbias: 'tensor?' }, attrs: {} },
  attention_backward: {
    operands: {
      q: 'tensor',
      cache: 'cache',
      positions: 'tensor',
      queryStart: 'tensor',
      contextLen: 'tensor',
      tableRow: 'tensor',
      blockTables: 'tensor',
      o: 'tensor',
      dout: 'tensor',
      dq: 'tensor',
      dkv: 'tensor',
    },
    attrs: { scale: 'number?', group: 'number?', accumulate: 'boolean?' },
  },
  rope_backward: {
    operands: { rope: 'tensor', positions: 'tensor', dq: 'tensor?', dkv: 'tensor?', out: 'tensor' },
    attrs: { numKvHeads: 'number' },
  },
  silu_mul_backward: { operands: { dout: 'tensor', gateUp: 'tensor', dGateUp: 'tensor' }, attrs: {} },
  distill_head: {
    operands: {
      student: 'tensor',
      teacher: 'tensor',
      w: 'tensor',
      wt: 'tensor',
      weights: 'tensor',
      loss: 'tensor',
      dStudent: 'tensor',
    },
    attrs: { temperature: 'number' },
  },
  cross_entropy_head: {
    operands: {
      a: 'tensor',
      w: 'tensor',
      wt: 'tensor',
      ids: 'tensor',
      weights: 'tensor',
      loss: 'tensor',
      da: 'tensor',
      dw: 'tensor?',
    },
    attrs: {},
  },
  mse: { operands: { x: 'tensor', target: 'tensor', weights: 'tensor', loss: 'tensor', dx: 'tensor' }, attrs: {} },
  embed_backward: { operands: { dTable: 'tensor', ids: 'tensor', dx: 'tensor' }, attrs: {} },
  sum_squares: { operands: { x: 'tensor', out: 'tensor' }, attrs: {} },
  adamw: {
    operands: { hyper: 'tensor', squares: 'tensor', grad: 'tensor', m: 'tensor', v: 'tensor', x: 'tensor' },
    attrs: {},
  },
  pack_weight: { operands: { src: 'tensor', dst: 'tensor', transposed: 'tensor?' }, attrs: {} },
};
