// The golden format: folders of tiny checkpoints with the outputs of the reference implementation beside them.
// test/golden/data/README.md describes it.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readRange, readSmallFile } from '../checkpoint/files.ts';
import { parseJsonObject } from '../checkpoint/json.ts';
import { readSafetensorsHeader } from '../checkpoint/safetensors.ts';
import { SwiftKVError } from '../errors.ts';

/** A tensor's values; integers and u8 codes are exact in f64 arrays too, so everything is numbers. */
export interface GoldenTensor {
  shape: readonly number[];
  values: Float32Array | Int32Array | Uint8Array;
}

/** One prompt with what the reference answered. */
export interface GoldenSequence {
  name: string;
  ids: Int32Array;
  /** [S, V] */
  logits: Float32Array;
  /** [S, V] with rows quantized to FP8 before every FP8 product */
  logitsW8a8: Float32Array | null;
  /** [16] */
  greedy: Int32Array;
  /** [S, d] residual stream entering layer `hiddenIndex` */
  hidden: Float32Array | null;
  /** [S, Hk, hd] of layer `kvLayer` */
  k: Float32Array | null;
  v: Float32Array | null;
  /** [L + 1, S, d] inputs of all layers, then the final norm's output */
  hiddenAll: Float32Array | null;
}

export interface GoldenCase {
  name: string;
  dir: string;
  sequences: GoldenSequence[];
  hiddenIndex: number;
  kvLayer: number;
  numKvCaches: number;
  fp8Linear: GoldenFp8Linear | null;
}

/** An FP8 module on its own: x [rows, k] and its products [rows, n] with rows in f32 and in FP8. */
export interface GoldenFp8Linear {
  module: string;
  x: Float32Array;
  /** [rows] */
  scales: Float32Array;
  /** [rows, k] */
  codes: Uint8Array;
  w8a16: Float32Array;
  w8a8: Float32Array;
}

/** What a folder of golden data holds, by name; files that no version of the format knows are not listed. */
export interface GoldenFolder {
  cases: string[];
  distill: string[];
  init: string[];
  fp8Table: string | null;
}

export async function listFolder(dir: string): Promise<GoldenFolder> {
  const names = await readdir(dir).catch((cause) => {
    throw new SwiftKVError('ERR_IO', `Reading the golden folder ${dir} failed: ${cause.message}`, { cause });
  });
  const ending = (suffix: string) =>
    names.filter((name) => name.endsWith(suffix)).map((name) => name.slice(0, -suffix.length));
  const folder = {
    cases: ending('.expected.safetensors').sort(),
    distill: ending('.distill.safetensors').sort(),
    init: names.filter((name) => /^init.*\.safetensors$/.test(name)).map((name) => name.replace('.safetensors', '')),
    fp8Table: names.includes('fp8_e4m3.safetensors') ? join(dir, 'fp8_e4m3.safetensors') : null,
  };
  if (folder.cases.length === 0 && folder.fp8Table === null) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected a folder with golden data but received ${dir}`);
  }
  return folder;
}

const decoders = {
  F32: (bytes: Uint8Array) => new Float32Array(bytes.buffer),
  I32: (bytes: Uint8Array) => new Int32Array(bytes.buffer),
  U8: (bytes: Uint8Array) => bytes,
};

export async function readTensors(path: string): Promise<Map<string, GoldenTensor>> {
  const tensors = new Map<string, GoldenTensor>();
  for (const [name, { dtype, shape, offset, byteLength }] of await readSafetensorsHeader(path)) {
    if (!(dtype in decoders)) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected F32, I32 or U8 for ${name} in ${path} but received ${dtype}`,
      );
    }
    const bytes = await readRange(path, offset, byteLength);
    tensors.set(name, { shape, values: decoders[dtype as keyof typeof decoders](bytes) });
  }
  return tensors;
}

export async function readCase(dir: string, name: string): Promise<GoldenCase> {
  const jsonPath = join(dir, `${name}.expected.json`);
  const json = parseJsonObject(await readSmallFile(jsonPath, 'ERR_IO'), jsonPath);
  const path = join(dir, `${name}.expected.safetensors`);
  const tensors = await readTensors(path);
  const floats = (tensor: string) => (tensors.get(tensor)?.values as Float32Array | undefined) ?? null;
  const need = <T>(tensor: string, value: T | null | undefined): T => {
    if (value !== null && value !== undefined) return value;
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${tensor} in ${path}`);
  };
  const sequences: GoldenSequence[] = [];
  for (let i = 0; tensors.has(`seq${i}.input_ids`); i++) {
    const at = (field: string) => `seq${i}.${field}`;
    sequences.push({
      name: `seq${i}`,
      ids: tensors.get(at('input_ids'))!.values as Int32Array,
      logits: need(at('logits'), floats(at('logits'))),
      logitsW8a8: floats(at('logits_w8a8')),
      greedy: need(at('greedy_ids'), tensors.get(at('greedy_ids'))?.values as Int32Array | undefined),
      hidden: floats(at('hidden')),
      k: floats(at('k')),
      v: floats(at('v')),
      hiddenAll: floats(at('hidden_all')),
    });
  }
  need('seq0.input_ids', sequences[0]);
  const number = (key: string) => need(`a number for ${key}`, typeof json[key] === 'number' ? json[key] : null);
  return {
    name,
    dir: join(dir, name),
    sequences,
    hiddenIndex: number('hidden_index'),
    kvLayer: number('kv_layer'),
    numKvCaches: number('num_kv_caches'),
    fp8Linear: typeof json['linear_module'] === 'string' ? readFp8Linear(json['linear_module'], tensors) : null,
  };
}

function readFp8Linear(module: string, tensors: ReadonlyMap<string, GoldenTensor>): GoldenFp8Linear {
  const values = <T>(name: string) => tensors.get(`linear.${name}`)!.values as T;
  return {
    module,
    x: values('x'),
    scales: values('x_scale'),
    codes: values('x_code'),
    w8a16: values('y_w8a16'),
    w8a8: values('y_w8a8'),
  };
}
