// Checkpoints of models in training, in the layout that the public classes load: SwiftKV's tensors beside everything of
// the base, the teacher's projections of later layers included; or those tensors alone, with a config that names the base.

import { isAbsolute, relative, resolve, sep } from 'node:path';
import { baseKey } from '../checkpoint/checkpoint.ts';
import { type JsonObject, quote } from '../checkpoint/json.ts';
import { companionsOf, storedTensor, type WriteFolderOptions, writeModelFolder } from '../checkpoint/write-folder.ts';
import type { TensorToWrite } from '../checkpoint/write-safetensors.ts';
import { SwiftKVError } from '../errors.ts';
import { convert } from '../kernels/convert.ts';
import { parseConfig } from '../model/parse-config.ts';
import {
  type BaseModel,
  type FloatDType,
  floatDTypes,
  isFloat,
  isSwiftkvTensor,
  parameterShapes,
  type SwiftKVLayout,
  studentConfig,
  swiftkvShapes,
} from './base-model.ts';

/** Row-major values of a parameter, or its bits in bf16. */
export type ParameterData = Float32Array | Uint16Array;

/** By name in the checkpoint. */
export type Parameters = ReadonlyMap<string, ParameterData>;

export interface WriteSwiftKVOptions extends WriteFolderOptions {
  /** Write only SwiftKV's own tensors, and a config that names the base by a path relative to the folder. */
  variant?: boolean | undefined;
  /** What Float32Arrays are stored in: default the dtype of the base's tensor in that place. */
  dtype?: FloatDType | undefined;
}

/**
 * Writes a student: the base with SwiftKV's tensors, which must be all that the layout has and no others. The folder
 * appears complete or not at all; nothing of the base is held in memory.
 * @throws ERR_INVALID_ARGUMENT, ERR_ABORTED, ERR_IO
 */
export async function writeSwiftKVCheckpoint(
  out: string,
  base: BaseModel,
  layout: SwiftKVLayout,
  tensors: Parameters,
  options: WriteSwiftKVOptions = {},
): Promise<void> {
  const shapes = swiftkvShapes(studentConfig(base, layout));
  for (const name of shapes.keys()) {
    if (!tensors.has(name)) throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${name} among the tensors`);
  }
  const written = [...tensors].map(([name, data]) => parameterToWrite(name, data, shapes, base, options.dtype));
  await writeStudent(out, base, layout, written, options);
}

/** The same with tensors in any form, which are taken as they are. */
export async function writeStudent(
  out: string,
  base: BaseModel,
  layout: SwiftKVLayout,
  tensors: readonly TensorToWrite[],
  options: WriteSwiftKVOptions = {},
): Promise<void> {
  const { checkpoint } = base;
  if (options.variant === true) {
    const config = studentJson(base, layout, relativeBase(out, checkpoint.dir));
    await writeModelFolder(out, { config, generationConfig: null, tokenizerDir: null, tensors }, options);
    return;
  }
  const own = [...checkpoint.tensors].filter(([name]) => !isSwiftkvTensor(name));
  const all = [...own.map(([name, tensor]) => storedTensor(name, tensor, options.signal)), ...tensors];
  const config = studentJson(base, layout, null);
  await writeModelFolder(out, { config, ...companionsOf(checkpoint), tensors: all }, options);
}

export interface WriteModelOptions extends WriteFolderOptions {
  /** Fields of config.json that differ from the base's, e.g. `{ num_hidden_layers: 12 }`. */
  config?: JsonObject | undefined;
  /** What Float32Arrays are stored in: default the dtype of the base's tensor of that name, or of its embedding. */
  dtype?: FloatDType | undefined;
}

/**
 * Writes a model whose parameters were trained, in the layout of the base; what is not given is the base's.
 * @throws ERR_INVALID_ARGUMENT, ERR_ABORTED, ERR_IO, ERR_MODEL_INVALID
 */
export async function writeModelCheckpoint(
  out: string,
  base: BaseModel,
  parameters: Parameters,
  options: WriteModelOptions = {},
): Promise<void> {
  const { checkpoint } = base;
  const config = { ...checkpoint.config, ...options.config };
  const shapes = parameterShapes(parseConfig(config, checkpoint.generationConfig));
  const unknown = [...parameters.keys()].find((name) => !shapes.has(name));
  if (unknown !== undefined) throw new SwiftKVError('ERR_INVALID_ARGUMENT', `The model has no parameter ${unknown}`);
  const tensors = [...shapes].map(([name, shape]) => {
    const data = parameters.get(name);
    if (data !== undefined) return parameterToWrite(name, data, shapes, base, options.dtype);
    const stored = checkpoint.tensors.get(name);
    if (stored === undefined || JSON.stringify(stored.shape) !== JSON.stringify(shape)) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected ${name} [${shape}] among the parameters, since the base does not have it in that shape`,
      );
    }
    return storedTensor(name, stored, options.signal);
  });
  await writeModelFolder(out, { config, ...companionsOf(checkpoint), tensors }, options);
}

/** config.json of a student: the base's with its family's SwiftKV type and the layout. */
function studentJson({ checkpoint, config }: BaseModel, layout: SwiftKVLayout, basePath: string | null): JsonObject {
  const { architectures: _, model_type: __, [baseKey]: ___, ...rest } = checkpoint.config;
  const modelType = config.modelType.replace(/(_swiftkv)?$/, '_swiftkv');
  const family = modelType.replace('_swiftkv', '');
  return {
    // As the public classes are called: LlamaSwiftKVForCausalLM.
    architectures: [`${family[0]!.toUpperCase()}${family.slice(1)}SwiftKVForCausalLM`],
    model_type: modelType,
    ...(basePath !== null && { [baseKey]: basePath }),
    ...rest,
    swiftkv: true,
    num_key_value_layers: layout.numKvLayers,
    key_value_group_size: layout.groupSize,
  };
}

function relativeBase(out: string, baseDir: string): string {
  const path = relative(resolve(out), baseDir);
  if (isAbsolute(path) || path === '') {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected a folder from which a relative path leads to the base ${baseDir} but received ${out}; ` +
        'write to the same disk, or write a whole checkpoint instead of a variant',
    );
  }
  return path.split(sep).join('/');
}

/** Values converted at a time. */
const pieceLength = 1 << 20;

function parameterToWrite(
  name: string,
  data: ParameterData,
  shapes: ReadonlyMap<string, readonly number[]>,
  base: BaseModel,
  dtype: FloatDType | undefined,
): TensorToWrite {
  const shape = shapes.get(name);
  if (shape === undefined) throw new SwiftKVError('ERR_INVALID_ARGUMENT', `The layout has no tensor ${quote(name)}`);
  const length = shape.reduce((product, n) => product * n, 1);
  if (data.length !== length) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${length} values for ${name} [${shape}] but received ${data.length}`,
    );
  }
  if (data instanceof Uint16Array) {
    return { name, dtype: 'BF16', shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  }
  const stored = dtype ?? dtypeInBase(name, base);
  return { name, dtype: stored, shape, data: converted(data, stored) };
}

async function* converted(values: Float32Array, dtype: FloatDType): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < values.length; at += pieceLength) {
    yield convert(values.subarray(at, at + pieceLength), floatDTypes[dtype]);
  }
}

function dtypeInBase(name: string, { checkpoint: { tensors, dir } }: BaseModel): FloatDType {
  const counterpart = name === 'model.norm_swiftkv.weight' ? 'model.norm.weight' : name.replace('_swiftkv', '');
  const { dtype } = tensors.get(counterpart) ?? tensors.get('model.embed_tokens.weight') ?? {};
  if (dtype !== undefined && isFloat(dtype)) return dtype;
  throw new SwiftKVError('ERR_MODEL_UNSUPPORTED', `${dir}: ${counterpart} is stored as ${dtype}; expected a float`);
}
