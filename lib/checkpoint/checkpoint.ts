// A Hugging Face folder: its configs, and where every tensor lies. A SwiftKV variant that holds only its own tensors
// names its base by "swiftkv_base" and appears here as if it were whole.

import { readdir, stat } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import { SwiftKVError } from '../errors.ts';
import { fileExists, readSmallFile } from './files.ts';
import { isJsonObject, type JsonObject, parseJsonObject, quote } from './json.ts';
import { type CheckpointTensor, readSafetensorsHeader } from './safetensors.ts';

export interface Checkpoint {
  /** Absolute. */
  dir: string;
  /** config.json as written. */
  config: JsonObject;
  /** generation_config.json as written (the base's when a variant has none), or null. */
  generationConfig: JsonObject | null;
  /** By name; a variant's own tensor hides the base's tensor of that name. */
  tensors: Map<string, CheckpointTensor>;
  /** The base of a variant. */
  base: { dir: string; config: JsonObject } | null;
  /** The folder whose tokenizer files count: this one when it has tokenizer.json, else the base's. */
  tokenizerDir: string;
}

export const configFile = 'config.json';
export const generationConfigFile = 'generation_config.json';
export const weightsFile = 'model.safetensors';
export const indexFile = 'model.safetensors.index.json';
/** The key of config.json that names a variant's base: a path relative to the variant's folder. */
export const baseKey = 'swiftkv_base';

/**
 * Reads the configs and all headers; no tensor. Costs memory for the headers only.
 * @throws ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_IO
 */
export async function openCheckpoint(dir: string): Promise<Checkpoint> {
  const own = await openFolder(resolve(dir));
  const basePath = own.config[baseKey];
  if (basePath === undefined || basePath === null) {
    return { ...own, tensors: await readTensors(own.dir), base: null, tokenizerDir: own.dir };
  }
  const where = join(own.dir, configFile);
  if (typeof basePath !== 'string' || basePath === '' || isAbsolute(basePath)) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${where}: expected a path relative to the folder for ${baseKey} but received ${quote(basePath)}`,
    );
  }
  const base = await openFolder(resolve(own.dir, basePath)).catch((error) => {
    if (!SwiftKVError.is(error)) throw error;
    throw new SwiftKVError(error.code, `${where} names the base ${quote(basePath)}: ${error.message}`, {
      cause: error,
    });
  });
  if (base.config[baseKey] !== undefined && base.config[baseKey] !== null) {
    throw new SwiftKVError(
      'ERR_MODEL_INVALID',
      `${where}: the base ${base.dir} names a base itself (${baseKey}); expected a folder that is whole`,
    );
  }
  return {
    ...own,
    generationConfig: own.generationConfig ?? base.generationConfig,
    tensors: new Map([...(await readTensors(base.dir)), ...(await readTensors(own.dir))]),
    base: { dir: base.dir, config: base.config },
    tokenizerDir: (await fileExists(join(own.dir, 'tokenizer.json'))) ? own.dir : base.dir,
  };
}

async function openFolder(dir: string): Promise<Pick<Checkpoint, 'dir' | 'config' | 'generationConfig'>> {
  const info = await stat(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    throw new SwiftKVError('ERR_IO', `Reading ${dir} failed: ${error.message}`, { cause: error });
  });
  if (!info?.isDirectory()) {
    const fault = info === null ? 'does not exist' : 'is not a folder';
    throw new SwiftKVError('ERR_MODEL_NOT_FOUND', `The model folder ${dir} ${fault}; expected a Hugging Face folder`);
  }
  const config = await readJson(join(dir, configFile));
  const generationPath = join(dir, generationConfigFile);
  const generationConfig = (await fileExists(generationPath)) ? await readJson(generationPath) : null;
  return { dir, config, generationConfig };
}

async function readJson(path: string): Promise<JsonObject> {
  return parseJsonObject(await readSmallFile(path, 'ERR_MODEL_NOT_FOUND'), path);
}

/** An index, where there is one, decides alone which shards count and which tensors they give. */
async function readTensors(dir: string): Promise<Map<string, CheckpointTensor>> {
  const indexPath = join(dir, indexFile);
  if (await fileExists(indexPath)) return readIndexed(dir, indexPath, await readJson(indexPath));
  const path = join(dir, weightsFile);
  if (await fileExists(path)) return readSafetensorsHeader(path);
  const others = (await readdir(dir)).filter((name) => /\.(bin|pt|pth|gguf|onnx|h5|msgpack)$/.test(name));
  if (others.length > 0) {
    throw new SwiftKVError(
      'ERR_MODEL_UNSUPPORTED',
      `${dir} has ${others[0]} but no ${weightsFile}; convert the weights to safetensors`,
    );
  }
  throw new SwiftKVError('ERR_MODEL_NOT_FOUND', `${dir} has neither ${weightsFile} nor ${indexFile}`);
}

async function readIndexed(dir: string, indexPath: string, index: JsonObject): Promise<Map<string, CheckpointTensor>> {
  const weightMap = index['weight_map'];
  if (!isJsonObject(weightMap)) {
    throw new SwiftKVError('ERR_MODEL_INVALID', `${indexPath}: expected an object for weight_map`);
  }
  const shards = new Map<string, Map<string, CheckpointTensor>>();
  const tensors = new Map<string, CheckpointTensor>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (!isShardName(shard)) {
      throw new SwiftKVError(
        'ERR_MODEL_INVALID',
        `${indexPath}: tensor ${quote(name)}: expected the name of a file in the folder ` +
          `but received ${quote(shard)}`,
      );
    }
    let headers = shards.get(shard);
    if (headers === undefined) {
      const shardPath = join(dir, shard);
      if (!(await fileExists(shardPath))) {
        throw new SwiftKVError(
          'ERR_MODEL_INVALID',
          `${indexPath}: tensor ${quote(name)} is said to be in ${shard}, which does not exist; download it`,
        );
      }
      headers = await readSafetensorsHeader(shardPath, 'ERR_MODEL_INVALID');
      shards.set(shard, headers);
    }
    const tensor = headers.get(name);
    if (tensor === undefined) {
      throw new SwiftKVError(
        'ERR_MODEL_INVALID',
        `${indexPath}: tensor ${quote(name)} is said to be in ${shard}, which does not have it`,
      );
    }
    tensors.set(name, tensor);
  }
  return tensors;
}

/** A plain file name: shards may not leave the folder, on any platform's rules. */
function isShardName(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value !== '.' && value !== '..' && !/[/\\:\0]/.test(value);
}
