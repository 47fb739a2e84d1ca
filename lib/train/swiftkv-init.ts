// What SwiftKV's tensors start from: the norm and the queries are copies, keys and values of a group the mean over its
// layers, as the public trainer initialises them, rounding included.

import type { CheckpointTensor } from '../checkpoint/safetensors.ts';
import { readPieces } from '../checkpoint/write-folder.ts';
import { SwiftKVError } from '../errors.ts';
import { convert, convertBack } from '../kernels/convert.ts';
import {
  type BaseModel,
  type FloatDType,
  floatDTypes,
  isFloat,
  type SwiftKVLayout,
  studentConfig,
  swiftkvShapes,
} from './base-model.ts';

/** A tensor and what it is made of. */
export interface InitialTensor {
  name: string;
  shape: readonly number[];
  /** Of the sources. */
  dtype: FloatDType;
  /** One for a copy; for a mean the tensors of a group's layers, in their order. */
  sources: readonly CheckpointTensor[];
  isMean: boolean;
}

/** Every tensor that SwiftKV adds to a base. @throws ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, naming the tensor */
export function planInitialTensors(base: BaseModel, layout: SwiftKVLayout): InitialTensor[] {
  const { dir, tensors } = base.checkpoint;
  return [...swiftkvShapes(studentConfig(base, layout))].map(([name, shape]) => {
    const isMean = /\.[kv]_(proj|norm)_swiftkv\./.test(name);
    const sources = sourceNames(name, layout, isMean).map((source) => {
      const tensor = tensors.get(source);
      if (tensor === undefined) throw new SwiftKVError('ERR_MODEL_INVALID', `${dir} has no tensor ${source}`);
      if (JSON.stringify(tensor.shape) !== JSON.stringify(shape)) {
        throw new SwiftKVError(
          'ERR_MODEL_INVALID',
          `${tensor.path}: ${source} has the shape [${tensor.shape}], but config.json asks for [${shape}]`,
        );
      }
      return tensor;
    });
    const { dtype } = sources[0]!;
    if (!isFloat(dtype) || sources.some((source) => source.dtype !== dtype)) {
      throw new SwiftKVError(
        'ERR_MODEL_UNSUPPORTED',
        `${dir}: expected the tensors that ${name} is made of to be all F32, all BF16 or all F16 ` +
          `but they are ${[...new Set(sources.map((source) => source.dtype))].join(' and ')}`,
      );
    }
    return { name, shape, dtype, sources, isMean };
  });
}

function sourceNames(name: string, { numKvLayers, groupSize }: SwiftKVLayout, isMean: boolean): string[] {
  if (name === 'model.norm_swiftkv.weight') return [`model.layers.${numKvLayers}.input_layernorm.weight`];
  const plain = name.replace('_swiftkv', '');
  if (!isMean) return [plain];
  const leader = Number(/\.layers\.(\d+)\./.exec(name)![1]);
  return Array.from({ length: groupSize }, (_, i) => plain.replace(`.${leader}.`, `.${leader + i}.`));
}

/** The bytes of an initial tensor in its dtype, some MiB at a time. */
export async function* initialPieces(tensor: InitialTensor, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if (!tensor.isMean) {
    yield* readPieces(tensor.sources[0]!, signal);
    return;
  }
  const dtype = floatDTypes[tensor.dtype];
  for await (const terms of pieceRows(tensor.sources, signal)) {
    const values = terms.map((bytes) => convertBack(bytes, dtype));
    yield convert(
      meanOf(values, (x) => round(x, dtype)),
      dtype,
    );
  }
}

/**
 * Initial values of all tensors, for a trainer. `stored`: with the roundings of the checkpoint's dtype, the values that
 * `convert` writes. `f32`: the mean is computed in f32 of the widened weights.
 */
export async function initialTensors(
  base: BaseModel,
  layout: SwiftKVLayout,
  arithmetic: 'stored' | 'f32' = 'stored',
): Promise<Map<string, { shape: readonly number[]; dtype: FloatDType; data: Float32Array }>> {
  const result = new Map<string, { shape: readonly number[]; dtype: FloatDType; data: Float32Array }>();
  for (const tensor of planInitialTensors(base, layout)) {
    const { name, shape, dtype: stored, sources, isMean } = tensor;
    const dtype = floatDTypes[stored];
    const data = new Float32Array(shape.reduce((product, n) => product * n, 1));
    let at = 0;
    const put = (values: Float32Array) => {
      data.set(values, at);
      at += values.length;
    };
    if (isMean && arithmetic === 'f32') {
      for await (const terms of pieceRows(sources)) put(meanOf(terms.map((bytes) => convertBack(bytes, dtype))));
    } else {
      for await (const bytes of initialPieces(tensor)) put(convertBack(bytes, dtype));
    }
    result.set(name, { shape, dtype: stored, data });
  }
  return result;
}

/** The same piece of several tensors of one size at a time. */
async function* pieceRows(
  sources: readonly CheckpointTensor[],
  signal?: AbortSignal,
): AsyncGenerator<readonly Uint8Array[]> {
  const readers = sources.map((source) => readPieces(source, signal));
  try {
    for (;;) {
      const next = await Promise.all(readers.map((reader) => reader.next()));
      if (next.some(({ done }) => done)) return;
      yield next.map(({ value }) => value as Uint8Array);
    }
  } finally {
    await Promise.all(readers.map((reader) => reader.return(undefined)));
  }
}

/** 0 + w0 / G + w1 / G + ..., rounded to f32 and then by `rounded` after every division and addition. */
function meanOf(
  terms: readonly Float32Array[],
  rounded: (values: Float32Array) => Float32Array = (x) => x,
): Float32Array {
  const sum = new Float32Array(terms[0]!.length);
  for (const term of terms) {
    const share = rounded(term.map((w) => w / terms.length));
    for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + share[i]!;
    sum.set(rounded(sum));
  }
  return sum;
}

function round(values: Float32Array, dtype: 'f32' | 'bf16' | 'f16'): Float32Array {
  return dtype === 'f32' ? values : convertBack(convert(values, dtype), dtype);
}
