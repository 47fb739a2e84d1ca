// Every op, in the order in which a step runs them.

import type { OpName } from '../../../kernels/op-signatures.ts';
import type { TrainOpSignatures } from '../../../kernels/train-op-signatures.ts';
import type { CaseOptions, KernelGroup, KernelShape } from '../kernel-case.ts';
import { attentionDecode, attentionPrefill } from './attention.ts';
import { logprobs, sample } from './logits.ts';
import { copyBlocks, kvDequantize, kvQuantize } from './pages.ts';
import { linear, qkvRopeCache, qRope, swiftkvProject } from './products.ts';
import { copyRows, embed, gatherRows, quantizeRows, rmsNorm, ropeTable, siluMul } from './rows.ts';

/** `attention` only sends rows to the other two; ops of training are no part of a step. */
export type BenchedOp = Exclude<OpName, 'attention' | keyof TrainOpSignatures>;

export const kernelGroups: Readonly<Record<BenchedOp, (c: KernelShape, o: CaseOptions) => KernelGroup[]>> = {
  embed,
  rms_norm: rmsNorm,
  qkv_rope_cache: qkvRopeCache,
  q_rope: qRope,
  swiftkv_project: swiftkvProject,
  attention_decode: attentionDecode,
  attention_prefill: attentionPrefill,
  linear,
  silu_mul: siluMul,
  gather_rows: gatherRows,
  sample,
  logprobs,
  kv_quantize: kvQuantize,
  kv_dequantize: kvDequantize,
  copy_blocks: copyBlocks,
  quantize_rows: quantizeRows,
  rope_table: ropeTable,
  copy_rows: copyRows,
};
