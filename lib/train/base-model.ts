// The plain model that SwiftKV tensors are made from, and the counts of layers that say which.

import type { JsonObject } from '../checkpoint/json.ts';
import type { CheckpointTensor, SafetensorsDType } from '../checkpoint/safetensors.ts';
import { SwiftKVError } from '../errors.ts';
import { architectures } from '../model/architectures.ts';
import type { ModelConfig } from '../model/config.ts';
import { isSwiftkvType } from '../model/decoder-config.ts';
import { resolveModel } from '../model/embedded.ts';
import { type OpenModel, openModel } from '../model/open-model.ts';

export type BaseModel = OpenModel;

/** Which layers of a student keep K and V, and how the others share theirs. */
export interface SwiftKVLayout {
  /** n: layers with their own K and V; 1 to L - 1. */
  numKvLayers: number;
  /** G: later layers that share one cache; divides L - n. */
  groupSize: number;
}

/** The dtypes that training reads and writes. */
export const floatDTypes = { F32: 'f32', BF16: 'bf16', F16: 'f16' } as const;
export type FloatDType = keyof typeof floatDTypes;

export function isFloat(dtype: SafetensorsDType): dtype is FloatDType {
  return Object.hasOwn(floatDTypes, dtype);
}

/**
 * Opens a plain float checkpoint of a family that has a SwiftKV form; no tensor is read.
 * @param source a Hugging Face folder or embedded:NAME
 * @throws ERR_INVALID_ARGUMENT when it is a SwiftKV model already, ERR_MODEL_UNSUPPORTED when it is quantized or its
 * family has no SwiftKV form, and what opening a model throws
 */
export async function openBase(source: string): Promise<BaseModel> {
  const base = await openModel(resolveModel(source));
  const { checkpoint, config } = base;
  if (isSwiftkvType(config.modelType)) {
    const origin = checkpoint.base === null ? 'the plain model that it was made from' : checkpoint.base.dir;
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `${checkpoint.dir} is a SwiftKV model already (model_type ${config.modelType}); give ${origin} instead`,
    );
  }
  if (!architectures.has(`${config.modelType}_swiftkv`)) {
    throw new SwiftKVError('ERR_MODEL_UNSUPPORTED', `There is no SwiftKV form of model_type ${config.modelType}`);
  }
  const quantized = quantizationOf(checkpoint.config, checkpoint.tensors);
  if (quantized !== null) {
    throw new SwiftKVError(
      'ERR_MODEL_UNSUPPORTED',
      `${checkpoint.dir} is quantized (${quantized}), and quantized weights cannot be averaged or trained; ` +
        'start from the f32, bf16 or f16 checkpoint',
    );
  }
  return base;
}

function quantizationOf(config: JsonObject, tensors: ReadonlyMap<string, CheckpointTensor>): string | null {
  for (const field of ['quantization_config', 'compression_config']) {
    if (config[field] !== undefined && config[field] !== null) return `config.json has ${field}`;
  }
  const other = [...tensors].find(([name, { dtype }]) => name.endsWith('.weight') && !isFloat(dtype));
  return other === undefined ? null : `${other[0]} is stored as ${other[1].dtype}`;
}

/**
 * @param kvLayers a count, or a share of all layers such as `50%`
 * @throws ERR_INVALID_ARGUMENT
 */
export function parseLayout(config: ModelConfig, kvLayers: number | string, groupSize: number): SwiftKVLayout {
  const { numLayers } = config;
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(String(kvLayers));
  const numKvLayers = percent === null ? Number(kvLayers) : Math.round((numLayers * Number(percent[1])) / 100);
  if (kvLayers === '' || !Number.isInteger(numKvLayers) || numKvLayers < 1 || numKvLayers >= numLayers) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected kvLayers to be 1 to ${numLayers - 1} of the ${numLayers} layers, or a share of them such as 50%, ` +
        `but received ${JSON.stringify(kvLayers)}`,
    );
  }
  const later = numLayers - numKvLayers;
  if (!Number.isInteger(groupSize) || groupSize < 1 || later % groupSize !== 0) {
    const divisors = Array.from({ length: later }, (_, i) => i + 1).filter((n) => later % n === 0);
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected groupSize to divide the ${later} layers from ${numKvLayers} on (${divisors.join(', ')}) ` +
        `but received ${groupSize}`,
    );
  }
  return { numKvLayers, groupSize };
}

/** The config of the student that a base becomes. */
export function studentConfig({ config }: BaseModel, layout: SwiftKVLayout): ModelConfig {
  const family = config.modelType.replace(/_swiftkv$/, '');
  return { ...config, ...layout, modelType: `${family}_swiftkv` };
}

/** Shape of every parameter of a model by its name in checkpoints, in the order of the forward pass. */
export function parameterShapes(config: ModelConfig): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  for (const { parts } of architectures.get(config.modelType)!.weights(config)) {
    for (const { name, shape } of parts) if (name !== null) shapes.set(name, shape);
  }
  return shapes;
}

/** Shape of every tensor that SwiftKV adds, by name. */
export function swiftkvShapes(student: ModelConfig): Map<string, readonly number[]> {
  return new Map([...parameterShapes(student)].filter(([name]) => isSwiftkvTensor(name)));
}

export function isSwiftkvTensor(name: string): boolean {
  return /_swiftkv\.(weight|bias)$/.test(name);
}
