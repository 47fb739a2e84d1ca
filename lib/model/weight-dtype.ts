// What matrices are kept in: as they are stored, or quantized while they are loaded.

import type { ComputeDType } from './forward.ts';
import type { WeightKey } from './weights.ts';

/**
 * auto: FP8 checkpoints stay FP8, others are kept in the compute dtype. fp8: one f32 scale per output. int8: one f32
 * scale per output, activations in int8 by groups of 32. int4: one f16 scale per output and 32 inputs, activations as
 * for int8.
 */
export type WeightDType = 'auto' | 'fp8' | 'int8' | 'int4';

export const weightDTypes: readonly WeightDType[] = ['auto', 'fp8', 'int8', 'int4'];

/** auto: the compute dtype (int8 groups for int8 and int4 weights). fp8: one dynamic scale per row; FP8 weights only. */
export type ActivationDType = 'auto' | 'fp8';

export const activationDTypes: readonly ActivationDType[] = ['auto', 'fp8'];

/** A matrix in memory, in the packed layout. */
export type MatrixDType = ComputeDType | 'fp8_e4m3' | 'int8' | 'int4';

/** As users write it. */
export function dtypeName(dtype: string): string {
  return dtype === 'fp8_e4m3' ? 'fp8' : dtype;
}

/**
 * What a matrix that is stored in floats is kept in. The head decides the token and is the embedding where the two are
 * tied, so it is not kept in less than 8 bits, and with fp8 not at all, as published FP8 checkpoints leave it.
 */
export function quantizedDType(key: WeightKey, compute: ComputeDType, weightDtype: WeightDType): MatrixDType {
  if (weightDtype === 'auto') return compute;
  if (key === 'head') return weightDtype === 'fp8' ? compute : 'int8';
  return weightDtype === 'fp8' ? 'fp8_e4m3' : weightDtype;
}

/** Outputs of one panel of the packed layout. */
const panelRows = 64;

/**
 * Bytes of a matrix [rows, k] in the packed layout: rows padded to whole panels, k to what lies together (2 elements of
 * 16 and 8 bit floats, 4 of int8, a group of 32 of int4), scales included.
 */
export function packedBytes(dtype: MatrixDType, rows: number, k: number): number {
  const panels = Math.ceil(rows / panelRows);
  const scales = panelRows * 4;
  switch (dtype) {
    case 'f32':
      return panels * panelRows * k * 4;
    case 'bf16':
      return panels * panelRows * Math.ceil(k / 2) * 4;
    case 'fp8_e4m3':
      return panels * (panelRows * Math.ceil(k / 2) * 2 + scales);
    case 'int8':
      return panels * (panelRows * Math.ceil(k / 4) * 4 + scales);
    case 'int4':
      return panels * Math.ceil(k / 32) * panelRows * (16 + 2);
  }
}
