// Matches what the forward pass needs with what a checkpoint has: every shape and dtype checked, every byte counted,
// before anything is allocated.

import { quote } from '../checkpoint/json.ts';
import type { CheckpointTensor } from '../checkpoint/safetensors.ts';
import { SwiftKVError } from '../errors.ts';
import type { DType, Layout } from '../native/binding.ts';
import type { ComputeDType } from './forward.ts';
import type { WeightKey, WeightPart, WeightTarget } from './weights.ts';

/** `rows` x `k` elements of a file, for rows [dstRow, dstRow + rows) of the tensor `key`. */
export interface PlannedSegment {
  key: WeightKey;
  path: string;
  /** Bytes. */
  offset: number;
  dtype: 'f32' | 'bf16' | 'f16';
  rows: number;
  k: number;
  dstRow: number;
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
  /** Tensors of the checkpoint that are not loaded. */
  unused: string[];
}

const loadable: Readonly<Record<string, PlannedSegment['dtype']>> = { F32: 'f32', BF16: 'bf16', F16: 'f16' };

/** Outputs of one panel of the packed layout. */
const panelRows = 64;

/** Bytes of a matrix [rows, k] in the packed layout: rows padded to whole panels; 16-bit types keep pairs along k. */
export function packedBytes(dtype: ComputeDType, rows: number, k: number): number {
  const paddedRows = Math.ceil(rows / panelRows) * panelRows;
  return dtype === 'f32' ? paddedRows * k * 4 : paddedRows * Math.ceil(k / 2) * 2 * 2;
}

/** The tensor that a target becomes. */
export function planTensor(target: WeightTarget, dtype: ComputeDType): PlannedTensor {
  const { key, kind, rows, k } = target;
  if (kind === 'vector') return { key, dtype: 'f32', layout: 'row_major', shape: [rows], bytes: rows * 4 };
  if (kind === 'matrix') {
    return { key, dtype, layout: 'panels', shape: [rows, k], bytes: packedBytes(dtype, rows, k) };
  }
  return { key, dtype, layout: 'row_major', shape: [rows, k], bytes: rows * k * (dtype === 'f32' ? 4 : 2) };
}

/**
 * @param dtype `auto`: bf16 when every matrix that is needed is stored in 16 bits, else f32
 * @param where names the checkpoint in errors
 * @throws ERR_MODEL_INVALID: a tensor is missing or has another shape; ERR_MODEL_UNSUPPORTED: its dtype
 */
export function planWeights(
  targets: Iterable<WeightTarget>,
  tensors: ReadonlyMap<string, CheckpointTensor>,
  dtype: 'auto' | ComputeDType,
  where: string,
): WeightPlan {
  const segments: PlannedSegment[] = [];
  const used = new Set<string>();
  const bytesByDType = new Map<PlannedSegment['dtype'], number>();
  const wanted: WeightTarget[] = [];
  for (const target of targets) {
    wanted.push(target);
    let dstRow = 0;
    for (const part of target.parts) {
      if (part.name !== null) {
        const tensor = find(part as WeightPart & { name: string }, tensors, where);
        const source = loadable[tensor.dtype]!;
        used.add(part.name);
        segments.push({
          key: target.key,
          path: tensor.path,
          offset: tensor.offset,
          dtype: source,
          rows: part.rows,
          k: target.k,
          dstRow,
        });
        if (target.kind !== 'vector') {
          bytesByDType.set(source, (bytesByDType.get(source) ?? 0) + tensor.byteLength);
        }
      }
      dstRow += part.rows;
    }
  }
  const unused = [...tensors.keys()].filter((name) => !used.has(name));
  refuseStrayBiases(unused, used, where);
  const sourceDTypes = [...bytesByDType].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const compute = dtype === 'auto' ? (sourceDTypes.includes('f32') ? 'f32' : 'bf16') : dtype;
  const planned = wanted.map((target) => planTensor(target, compute));
  return {
    dtype: compute,
    tensors: planned,
    segments: segments.sort((a, b) => (a.path === b.path ? a.offset - b.offset : a.path < b.path ? -1 : 1)),
    packedBytes: planned.reduce((sum, tensor) => sum + tensor.bytes, 0),
    sourceBytes: segments.reduce((sum, s) => sum + s.rows * s.k * (s.dtype === 'f32' ? 4 : 2), 0),
    sourceDTypes,
    unused,
  };
}

function find(
  part: WeightPart & { name: string },
  tensors: ReadonlyMap<string, CheckpointTensor>,
  where: string,
): CheckpointTensor {
  const tensor = tensors.get(part.name);
  const shape = JSON.stringify(part.shape);
  if (tensor === undefined) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${where}: tensor ${part.name} ${shape} is missing${hint(part.name)}`);
  }
  if (JSON.stringify(tensor.shape) !== shape) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${tensor.path}: tensor ${part.name}: expected the shape ${shape}, which config.json asks for, ` +
        `but received ${quote(tensor.shape)}`,
    );
  }
  if (!Object.hasOwn(loadable, tensor.dtype)) {
    const fp8 = tensor.dtype.startsWith('F8') ? 'FP8 weights are not supported yet; ' : '';
    throw new SwiftKVError(
      'ERR_MODEL_UNSUPPORTED',
      `${tensor.path}: tensor ${part.name}: ${fp8}expected F32, BF16 or F16 but received ${tensor.dtype}`,
    );
  }
  return tensor;
}

function hint(name: string): string {
  if (name === 'lm_head.weight') return '; if the head shares the embedding, config.json must say tie_word_embeddings';
  if (/\.layers\.\d+\.self_attn\.[qkv]_proj\./.test(name)) {
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
