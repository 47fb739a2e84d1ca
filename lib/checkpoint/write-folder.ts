// Writes a model folder so that it appears complete or not at all: under a temporary name beside it, then renamed.

import { randomUUID } from 'node:crypto';
import { copyFile, mkdir, open, readdir, rename, rm, rmdir, statfs, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { SwiftKVError } from '../errors.ts';
import { type Checkpoint, configFile, generationConfigFile, indexFile, weightsFile } from './checkpoint.ts';
import { fileExists } from './files.ts';
import type { JsonObject } from './json.ts';
import { type CheckpointTensor, safetensorsDTypes } from './safetensors.ts';
import { type TensorToWrite, writeSafetensors } from './write-safetensors.ts';

/** Beside the weights and config.json; those of the tokenizer are known by name, since its loader needs them so. */
const tokenizerFiles = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
];

/** Bytes read at a time. */
const pieceBytes = 4 * 1024 * 1024;

/** Bytes of tensors in one file at most, as Hugging Face's own writer splits. */
export const defaultShardBytes = 5e9;

export interface FolderContents {
  config: JsonObject;
  generationConfig: JsonObject | null;
  /** Where the tokenizer's files are copied from; null: nowhere. */
  tokenizerDir: string | null;
  tensors: readonly TensorToWrite[];
}

export interface WriteFolderOptions {
  /** Put the new folder in the place of one that has contents. Default: such a folder is refused. */
  replace?: boolean | undefined;
  /** Bytes of tensors in one safetensors file at most; above, there are several and an index. Default 5 GB. */
  maxShardBytes?: number | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Writes config.json, generation_config.json, the tokenizer's files and the tensors.
 * @throws ERR_INVALID_ARGUMENT when the folder has contents, ERR_ABORTED, ERR_IO; then nothing is left behind
 */
export async function writeModelFolder(
  dir: string,
  contents: FolderContents,
  options: WriteFolderOptions = {},
): Promise<void> {
  const out = resolve(dir);
  if (options.replace !== true) await requireEmptyFolder(out);
  // Beside the target and so on the same file system: the rename is atomic.
  const temporary = join(dirname(out), `.${basename(out)}-${randomUUID()}`);
  try {
    await mkdir(temporary, { recursive: true });
    await requireSpace(temporary, out, contents.tensors);
    await writeContents(temporary, contents, options);
    await moveInto(temporary, out, options.replace === true);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw writeError(out, error);
  }
}

/** @throws ERR_INVALID_ARGUMENT */
export async function requireEmptyFolder(out: string): Promise<void> {
  const contents = await readdir(out).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected a folder to write but ${out}: ${error.message}`);
  });
  if (contents.length > 0) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected a new or empty folder but ${out} has ${contents[0]}`);
  }
}

/** A tensor's bytes as they are stored, read as they are written. */
export function storedTensor(name: string, tensor: CheckpointTensor, signal?: AbortSignal): TensorToWrite {
  return { name, dtype: tensor.dtype, shape: tensor.shape, data: readPieces(tensor, signal) };
}

/** The bytes of a stored tensor, some MiB at a time; every piece is overwritten by the next. */
export async function* readPieces(
  tensor: CheckpointTensor,
  signal?: AbortSignal,
  bytes = pieceBytes,
): AsyncGenerator<Uint8Array> {
  if (tensor.byteLength === 0) return;
  const file = await open(tensor.path, 'r');
  try {
    const buffer = new Uint8Array(Math.min(bytes, tensor.byteLength));
    for (let done = 0; done < tensor.byteLength; ) {
      if (signal?.aborted) throw new SwiftKVError('ERR_ABORTED', 'Writing was stopped', { cause: signal.reason });
      const wanted = Math.min(buffer.length, tensor.byteLength - done);
      let read = 0;
      // Whole pieces, whatever a read returns: callers see elements, not halves of them.
      while (read < wanted) {
        const { bytesRead } = await file.read(buffer, read, wanted - read, tensor.offset + done + read);
        if (bytesRead === 0) throw new SwiftKVError('ERR_IO', `${tensor.path} was cut while being read`);
        read += bytesRead;
      }
      done += wanted;
      yield buffer.subarray(0, wanted);
    }
  } finally {
    await file.close();
  }
}

export function tensorBytes({ dtype, shape }: Pick<TensorToWrite, 'dtype' | 'shape'>): number {
  return shape.reduce((product, n) => product * n, safetensorsDTypes[dtype]);
}

/** A folder's own generation_config.json and tokenizer, for a model made from it. */
export function companionsOf(checkpoint: Checkpoint): Pick<FolderContents, 'generationConfig' | 'tokenizerDir'> {
  return { generationConfig: checkpoint.generationConfig, tokenizerDir: checkpoint.tokenizerDir };
}

async function writeContents(folder: string, contents: FolderContents, options: WriteFolderOptions): Promise<void> {
  await writeJson(join(folder, configFile), contents.config);
  if (contents.generationConfig !== null) {
    await writeJson(join(folder, generationConfigFile), contents.generationConfig);
  }
  if (contents.tokenizerDir !== null) {
    for (const name of tokenizerFiles) {
      const from = join(contents.tokenizerDir, name);
      if (await fileExists(from)) await copyFile(from, join(folder, name));
    }
  }
  await writeTensors(folder, contents.tensors, options.maxShardBytes ?? defaultShardBytes);
}

/** One file, or shards with an index, each with as many tensors in their order as fit. */
async function writeTensors(folder: string, tensors: readonly TensorToWrite[], maxBytes: number): Promise<void> {
  const shards: TensorToWrite[][] = [[]];
  let [size, total] = [0, 0];
  for (const tensor of tensors) {
    const bytes = tensorBytes(tensor);
    if (size > 0 && size + bytes > maxBytes) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)!.push(tensor);
    size += bytes;
    total += bytes;
  }
  if (shards.length === 1) return writeSafetensors(join(folder, weightsFile), tensors);
  const digits = (n: number) => String(n).padStart(5, '0');
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const file = `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, file), shard);
    for (const { name } of shard) weightMap[name] = file;
  }
  await writeJson(join(folder, indexFile), { metadata: { total_size: total }, weight_map: weightMap });
}

function writeJson(path: string, value: unknown): Promise<void> {
  return writeFile(path, `${JSON.stringify(value, null, 2)}\n`, { flush: true });
}

async function moveInto(temporary: string, out: string, replace: boolean): Promise<void> {
  if (!replace) {
    await rmdir(out).catch(ignoreMissing);
    return rename(temporary, out);
  }
  // A folder cannot be renamed over one that has contents: for a moment both lie beside `out`, and neither is lost.
  const old = join(dirname(out), `.${basename(out)}-${randomUUID()}`);
  const hadOld = await rename(out, old).then(() => true, ignoreMissing);
  try {
    await rename(temporary, out);
  } catch (error) {
    if (hadOld) await rename(old, out);
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}

/** Refuses before hours of writing what cannot fit. Systems that do not say what is free are believed. */
async function requireSpace(folder: string, out: string, tensors: readonly TensorToWrite[]): Promise<void> {
  const needed = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (bsize === 0 || needed <= free) return;
  throw new SwiftKVError(
    'ERR_IO',
    `Expected ${needed} bytes of free space for ${out} but the disk has ${free}; free some, or write elsewhere`,
  );
}

function writeError(out: string, error: unknown): SwiftKVError {
  if (SwiftKVError.is(error)) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const reason = isFull ? `the disk is full (${message}); free some space, or write elsewhere` : message;
  return new SwiftKVError('ERR_IO', `Writing ${out} failed: ${reason}`, { cause: error });
}

function ignoreMissing(error: NodeJS.ErrnoException): false {
  if (error.code !== 'ENOENT') throw error;
  return false;
}
