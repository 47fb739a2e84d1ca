// Matches what the forward pass needs with what a checkpoint has: every shape and dtype checked, every byte counted,
// before anything is allocated.

import { quote } from '../checkpoint/json.ts';
import type { CheckpointTensor } from '../checkpoint/safetensors.ts';
import { SwiftKVError } from '../errors.ts';
import type { DType, Layout } from '../native/binding.ts';
import type { ComputeDType } from './forward.ts';
import { type MatrixDType, packedBytes, quantizedDType, type WeightDType } from './weight-dtype.ts';
import type { WeightKey, WeightTarget } from './weights.ts';

type FloatDType = 'f32' | 'bf16' | 'f16';

/**
 * `rows` x `k` elements of a file, for rows [dstRow, dstRow + rows) of the tensor `key`: its values, or the scales of
 * its FP8 codes (k = 1; with `repeat` one element for all rows).
 */
export interface PlannedSegment {
  key: WeightKey;
  path: string;
  /** Bytes. */
  offset: number;
  dtype: FloatDType | 'fp8_e4m3';
  rows: number;
  k: number;
  dstRow: number;
  target: 'values' | 'scales';
  repeat: boolean;
}

/** A tensor to allocate. */
export interface PlannedTensor {
  key: WeightKey;
  dtype: DType;
  layout: Layout;
  shape: number[];
  bytes: number;
}

export interface WeightPlan {
  dtype: ComputeDType;
  tensors: PlannedTensor[];
  /** In file order. */
  segments: PlannedSegment[];
  /** Bytes of all tensors in memory. */
  packedBytes: number;
  /** Bytes read from files. */
  sourceBytes: number;
  /** Source dtypes of the matrices, those with most bytes first. */
  sourceDTypes: PlannedSegment['dtype'][];
  /** What the matrices are kept in, those with most bytes first. */
  matrixDTypes: DType[];
  /** Tensors of the checkpoint that are not loaded. */
  unused: string[];
}

const floats: Readonly<Record<string, FloatDType>> = { F32: 'f32', BF16: 'bf16', F16: 'f16' };
const elementBytes = { f32: 4, bf16: 2, f16: 2, fp8_e4m3: 1 } as const;

/** The tensor that a target becomes; `matrix`: what it is kept in if it is a matrix. */
export function planTensor(target: WeightTarget, compute: ComputeDType, matrix: MatrixDType): PlannedTensor {
  const { key, kind, rows, k } = target;
  if (kind === 'vector') return { key, dtype: 'f32', layout: 'row_major', shape: [rows], bytes: rows * 4 };
  if (kind === 'matrix') {
    return { key, dtype: matrix, layout: 'panels', shape: [rows, k], bytes: packedBytes(matrix, rows, k) };
  }
  const dtype = kind === 'vectors' ? 'f32' : compute;
  const bytes = rows * k * elementBytes[dtype];
  return { key, dtype, layout: 'row_major', shape: [rows, k], bytes };
}

/** The dtypes of the matrices among some tensors, those with most bytes first. */
export function matrixDTypesOf(tensors: readonly PlannedTensor[]): DType[] {
  return byMostBytes(tensors.filter(({ layout }) => layout === 'panels').map(({ dtype, bytes }) => [dtype, bytes]));
}

function byMostBytes<T>(entries: readonly (readonly [T, number])[]): T[] {
  const sums = new Map<T, number>();
  for (const [key, bytes] of entries) sums.set(key, (sums.get(key) ?? 0) + bytes);
  return [...sums].sort((a, b) => b[1] - a[1]).map(([key]) => key);
}

/**
 * @param dtype `auto`: bf16 when every matrix that is needed is stored in 16 or 8 bits, else f32
 * @param where names the checkpoint in errors
 * @throws ERR_MODEL_INVALID: a tensor is missing or has another shape; ERR_MODEL_UNSUPPORTED: its dtype;
 *   ERR_INVALID_ARGUMENT: FP8 weights cannot become `weightDtype`
 */
export function planWeights(
  targets: Iterable<WeightTarget>,
  tensors: ReadonlyMap<string, CheckpointTensor>,
  dtype: 'auto' | ComputeDType,
  where: string,
  weightDtype: WeightDType = 'auto',
): WeightPlan {
  const segments: PlannedSegment[] = [];
  const used = new Set<string>();
  const stored: [PlannedSegment['dtype'], number][] = [];
  const wanted: { target: WeightTarget; fp8: boolean }[] = [];
  for (const target of targets) {
    const fp8 = isFp8(target, tensors, where);
    if (fp8 && weightDtype !== 'auto' && weightDtype !== 'fp8') refuseRequantizing(target, where, weightDtype);
    wanted.push({ target, fp8 });
    let dstRow = 0;
    for (const { name, rows, shape } of target.parts) {
      if (name !== null) {
        const tensor = find(name, shape, tensors, where);
        const source = fp8 ? 'fp8_e4m3' : floatDType(name, tensor);
        const { path, offset } = tensor;
        const part = { key: target.key, rows, dstRow };
        used.add(name);
        segments.push({ ...part, path, offset, dtype: source, k: target.k, target: 'values', repeat: false });
        if (target.kind === 'matrix' || target.kind === 'table') stored.push([source, tensor.byteLength]);
        if (fp8) {
          const scales = findScales(name, rows, tensors, where);
          used.add(`${name}_scale`);
          segments.push({ ...part, ...scales, k: 1, target: 'scales' });
        }
      }
      dstRow += rows;
    }
  }
  const unused = [...tensors.keys()].filter((name) => !used.has(name));
  refuseStrayBiases(unused, used, where);
  const sourceDTypes = byMostBytes(stored);
  const compute = dtype === 'auto' ? (sourceDTypes.includes('f32') ? 'f32' : 'bf16') : dtype;
  const planned = wanted.map(({ target, fp8 }) =>
    planTensor(target, compute, fp8 ? 'fp8_e4m3' : quantizedDType(target.key, compute, weightDtype)),
  );
  return {
    dtype: compute,
    tensors: planned,
    segments: segments.sort((a, b) => (a.path === b.path ? a.offset - b.offset : a.path < b.path ? -1 : 1)),
    packedBytes: planned.reduce((sum, tensor) => sum + tensor.bytes, 0),
    sourceBytes: segments.reduce((sum, s) => sum + (s.repeat ? 1 : s.rows) * s.k * elementBytes[s.dtype], 0),
    sourceDTypes,
    matrixDTypes: matrixDTypesOf(planned),
    unused,
  };
}

/** Whether a matrix is stored as FP8 codes. Its parts become one matrix, so they must agree. */
function isFp8(target: WeightTarget, tensors: ReadonlyMap<string, CheckpointTensor>, where: string): boolean {
  if (target.kind !== 'matrix') return false;
  const names = target.parts.flatMap(({ name }) => (name !== null && tensors.has(name) ? [name] : []));
  const coded = names.filter((name) => tensors.get(name)!.dtype === 'F8_E4M3');
  if (coded.length > 0 && coded.length < names.length) {
    const plain = names.find((name) => !coded.includes(name))!;
    throw new SwiftKVError(
      'ERR_MODEL_UNSUPPORTED',
      `${where}: tensor ${coded[0]} is F8_E4M3, but ${plain}, which is multiplied with it at once, is ` +
        `${tensors.get(plain)!.dtype}; expected both or neither in FP8`,
    );
  }
  return coded.length > 0;
}

function refuseRequantizing(target: WeightTarget, where: string, weightDtype: WeightDType): never {
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `${where}: tensor ${target.parts[0]!.name} is stored in FP8; expected auto or fp8 for weightDtype ` +
      `but received ${weightDtype}`,
  );
}

function find(
  name: string,
  wanted: readonly number[],
  tensors: ReadonlyMap<string, CheckpointTensor>,
  where: string,
): CheckpointTensor {
  const tensor = tensors.get(name);
  const shape = JSON.stringify(wanted);
  if (tensor === undefined) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${where}: tensor ${name} ${shape} is missing${hint(name)}`);
  }
  if (JSON.stringify(tensor.shape) !== shape) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${tensor.path}: tensor ${name}: expected the shape ${shape}, which config.json asks for, ` +
        `but received ${quote(tensor.shape)}`,
    );
  }
  return tensor;
}

function floatDType(name: string, tensor: CheckpointTensor): FloatDType {
  if (Object.hasOwn(floats, tensor.dtype)) return floats[tensor.dtype]!;
  const fp8 = tensor.dtype.startsWith('F8') ? 'of FP8 weights only F8_E4M3 matrices are read; ' : '';
  throw new SwiftKVError(
    'ERR_MODEL_UNSUPPORTED',
    `${tensor.path}: tensor ${name}: ${fp8}expected F32, BF16 or F16 but received ${tensor.dtype}`,
  );
}

/** Scales of FP8 codes: one per output ([rows, 1] or [rows]) or one for the whole tensor ([1] or a scalar). */
function findScales(
  name: string,
  rows: number,
  tensors: ReadonlyMap<string, CheckpointTensor>,
  where: string,
): Pick<PlannedSegment, 'path' | 'offset' | 'dtype' | 'repeat'> {
  const scaleName = `${name}_scale`;
  const tensor = tensors.get(scaleName);
  if (tensor === undefined) {
    const inverse = tensors.has(`${name}_scale_inv`) ? `; ${name}_scale_inv, of scales by block, is not supported` : '';
    throw new SwiftKVError(
      inverse === '' ? 'ERR_MODEL_INVALID' : 'ERR_MODEL_UNSUPPORTED',
      `${where}: tensor ${scaleName}, the scales of the FP8 tensor ${name}, is missing${inverse}`,
    );
  }
  const count = tensor.shape.reduce((product, size) => product * size, 1);
  const perOutput = tensor.shape.length <= 2 && tensor.shape[0] === rows && count === rows;
  if (!perOutput && count !== 1) {
    throw new SwiftKVError(
      'ERR_MODEL_UNSUPPORTED',
      `${tensor.path}: tensor ${scaleName}: expected [${rows}, 1] (a scale per output) or one scale ` +
        `but received ${quote(tensor.shape)}`,
    );
  }
  const { path, offset } = tensor;
  return { path, offset, dtype: floatDType(scaleName, tensor), repeat: !perOutput };
}

function hint(name: string): string {
  if (name === 'lm_head.weight') return '; if the head shares the embedding, config.json must say tie_word_embeddings';
  if (/\.layers\.\d+\.self_attn\.([qkv]_proj|[qk]_norm)\./.test(name)) {
    return '; a SwiftKV checkpoint without its teacher projections runs only with "swiftkv": true';
  }
  return '';
}

/** A bias that the config denies would be ignored, and the answers would be wrong. */
function refuseStrayBiases(unused: readonly string[], used: ReadonlySet<string>, where: string): void {
  const stray = unused.find((name) => name.endsWith('.bias') && used.has(name.replace(/bias$/, 'weight')));
  if (stray !== undefined) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${where}: tensor ${stray} exists, but config.json says that there is no such bias (attention_bias, mlp_bias)`,
    );
  }
}
