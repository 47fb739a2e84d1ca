// Every op, in the order in which a step runs them, then those of training.

import type { OpName } from '../../../kernels/op-signatures.ts';
import type { TrainOpSignatures } from '../../../kernels/train-op-signatures.ts';
import type { CaseOptions, KernelGroup, KernelShape } from '../kernel-case.ts';
import { attentionDecode, attentionPrefill } from './attention.ts';
import { logprobs, sample } from './logits.ts';
import { copyBlocks, kvDequantize, kvQuantize } from './pages.ts';
import { linear, qkvRopeCache, qRope, swiftkvProject } from './products.ts';
import { copyRows, embed, gatherRows, quantizeRows, rmsNorm, ropeTable, siluMul } from './rows.ts';
import { attentionBackward, crossEntropyHead, distillHead, linearBackward } from './training.ts';

/** Of training's ops those that multiply matrices; the others wait for memory. */
export const benchedTraining = ['linear_backward', 'attention_backward', 'distill_head', 'cross_entropy_head'] as const;

type UnbenchedTraining = Exclude<keyof TrainOpSignatures, (typeof benchedTraining)[number]>;

/** `attention` only sends rows to the other two. */
export type BenchedOp = Exclude<OpName, 'attention' | UnbenchedTraining>;

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
  linear_backward: linearBackward,
  attention_backward: attentionBackward,
  distill_head: distillHead,
  cross_entropy_head: crossEntropyHead,
};
