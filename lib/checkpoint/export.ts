// Writes a model as one self-contained Hugging Face folder: a SwiftKV variant and its base become one checkpoint.

import { randomUUID } from 'node:crypto';
import { copyFile, mkdir, open, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { SwiftKVError } from '../errors.ts';
import { openModel } from '../model/open-model.ts';
import { baseKey, type Checkpoint, configFile, generationConfigFile, weightsFile } from './checkpoint.ts';
import { fileExists } from './files.ts';
import type { CheckpointTensor } from './safetensors.ts';
import { writeSafetensors } from './write-safetensors.ts';

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

/**
 * Writes config.json (without `swiftkv_base`), all tensors merged into model.safetensors in their stored dtypes (the
 * teacher's projections of later layers included, as published checkpoints have them), generation_config.json and the
 * tokenizer's files. `outDir` must not exist or be empty; it appears complete or not at all.
 * @throws ERR_INVALID_ARGUMENT when outDir has contents, ERR_ABORTED, ERR_IO, and what opening a model throws
 */
export async function exportModel(dir: string, outDir: string, options: { signal?: AbortSignal } = {}): Promise<void> {
  const { checkpoint } = await openModel(dir);
  const out = resolve(outDir);
  await requireEmpty(out);
  // Beside the target and so on the same file system: the rename is atomic.
  const temporary = join(dirname(out), `.${basename(out)}-${randomUUID()}`);
  try {
    await mkdir(temporary, { recursive: true });
    await writeFiles(checkpoint, temporary, options.signal);
    await rmdir(out).catch(ignoreMissing);
    await rename(temporary, out);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    if (SwiftKVError.is(error)) throw error;
    throw new SwiftKVError('ERR_IO', `Writing ${out} failed: ${(error as Error).message}`, { cause: error });
  }
}

async function requireEmpty(out: string): Promise<void> {
  const contents = await readdir(out).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected a folder to write but ${out}: ${error.message}`);
  });
  if (contents.length > 0) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected a new or empty folder but ${out} has ${contents[0]}`);
  }
}

async function writeFiles(checkpoint: Checkpoint, folder: string, signal: AbortSignal | undefined): Promise<void> {
  const { [baseKey]: _, ...config } = checkpoint.config;
  await writeJson(join(folder, configFile), config);
  if (checkpoint.generationConfig !== null) {
    await writeJson(join(folder, generationConfigFile), checkpoint.generationConfig);
  }
  for (const name of tokenizerFiles) {
    const from = join(checkpoint.tokenizerDir, name);
    if (await fileExists(from)) await copyFile(from, join(folder, name));
  }
  const tensors = [...checkpoint.tensors].map(([name, tensor]) => ({
    name,
    dtype: tensor.dtype,
    shape: tensor.shape,
    data: readPieces(tensor, signal),
  }));
  await writeSafetensors(join(folder, weightsFile), tensors);
}

function writeJson(path: string, value: unknown): Promise<void> {
  return writeFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

async function* readPieces(tensor: CheckpointTensor, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  if (tensor.byteLength === 0) return;
  const file = await open(tensor.path, 'r');
  try {
    const buffer = new Uint8Array(Math.min(pieceBytes, tensor.byteLength));
    for (let done = 0; done < tensor.byteLength; ) {
      if (signal?.aborted) throw new SwiftKVError('ERR_ABORTED', 'The export was stopped', { cause: signal.reason });
      const wanted = Math.min(buffer.length, tensor.byteLength - done);
      const { bytesRead } = await file.read(buffer, 0, wanted, tensor.offset + done);
      if (bytesRead === 0) throw new SwiftKVError('ERR_IO', `${tensor.path} was cut while being read`);
      done += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
