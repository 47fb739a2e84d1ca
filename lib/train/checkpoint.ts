// Checkpoints of a run in progress: the flat arrays of what is trained, and a few numbers. A folder appears complete or not
// at all; of a run the newest are kept.

import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readRange } from '../checkpoint/files.ts';
import { readSafetensorsHeader } from '../checkpoint/safetensors.ts';
import { writeSafetensors } from '../checkpoint/write-safetensors.ts';
import { SwiftKVError } from '../errors.ts';
import type { TrainingModel } from './model.ts';
import type { TrainerState } from './trainer.ts';
import type { FlatArray } from './training-memory.ts';

/** What a run is: a checkpoint goes on with the same only. Values are compared one by one. */
export type RunIdentity = Readonly<Record<string, string | number | boolean | null>>;

export interface SavedRun {
  path: string;
  state: TrainerState;
  /** Updates of AdamW, for its bias correction. */
  updates: number;
}

const arrays = ['parameters', 'm', 'v'] as const satisfies readonly FlatArray[];
const stateFile = 'trainer.json';
const arraysFile = 'trainer.safetensors';
const version = 1;
const kept = 2;

/** Returns the folder's path. @throws ERR_IO, when the disk is full, say: what was saved before is then still there */
export async function saveRun(
  folder: string,
  model: TrainingModel,
  identity: RunIdentity,
  state: TrainerState,
): Promise<string> {
  const name = `step-${String(state.step).padStart(7, '0')}`;
  const path = join(folder, name);
  const temporary = join(folder, `.${name}-${randomUUID()}`);
  try {
    await mkdir(temporary, { recursive: true });
    await writeSafetensors(
      join(temporary, arraysFile),
      arrays.map((name) => ({
        name,
        dtype: 'F32',
        shape: [model.parameters.total],
        data: bytesOf(model, name),
      })),
    );
    const json = { version, identity, ...state, updates: model.updates, layout: layoutOf(model) };
    await writeFile(join(temporary, stateFile), `${JSON.stringify(json, null, 2)}\n`, { flush: true });
    await rm(path, { recursive: true, force: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    if (SwiftKVError.is(error)) throw error;
    const { message } = error as Error;
    throw new SwiftKVError(
      'ERR_IO',
      `Writing the checkpoint ${path} failed: ${message}; the one before is whole. Make room and go on with --resume`,
      { cause: error },
    );
  }
  for (const old of (await savedSteps(folder)).slice(0, -kept)) {
    await rm(join(folder, old), { recursive: true, force: true });
  }
  return path;
}

/** Read when it is written, so that one array at a time is in memory twice. */
async function* bytesOf(model: TrainingModel, array: FlatArray): AsyncGenerator<Uint8Array> {
  const { buffer, byteOffset, byteLength } = model.read(array);
  yield new Uint8Array(buffer, byteOffset, byteLength);
}

/**
 * Reads the newest checkpoint of a run into the model, which must be what the run is.
 * @returns null when there is none
 * @throws ERR_INVALID_ARGUMENT when it is of another run, with what differs; ERR_IO, ERR_MODEL_INVALID
 */
export async function resumeRun(folder: string, model: TrainingModel, identity: RunIdentity): Promise<SavedRun | null> {
  const newest = (await savedSteps(folder)).at(-1);
  if (newest === undefined) return null;
  const path = join(folder, newest);
  const json = await readState(join(path, stateFile));
  requireSame(path, json.identity, identity);
  if (JSON.stringify(json.layout) !== JSON.stringify(layoutOf(model))) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${path} is of a model with other trained tensors than this one`);
  }
  const tensors = await readSafetensorsHeader(join(path, arraysFile));
  for (const array of arrays) {
    const tensor = tensors.get(array);
    if (tensor?.dtype !== 'F32' || tensor.byteLength !== model.parameters.total * 4) {
      throw new SwiftKVError('ERR_MODEL_INVALID', `${path}: expected ${model.parameters.total} numbers for ${array}`);
    }
    const bytes = await readRange(tensor.path, tensor.offset, tensor.byteLength);
    model.write(array, new Float32Array(bytes.buffer, bytes.byteOffset, model.parameters.total));
  }
  model.updates = json.updates;
  await model.publish();
  return { path, state: { step: json.step, tokens: json.tokens, data: json.data }, updates: json.updates };
}

/** Whether a folder holds checkpoints of a run. */
export async function hasRun(folder: string): Promise<boolean> {
  return (await savedSteps(folder)).length > 0;
}

interface StateJson extends TrainerState {
  version: number;
  identity: RunIdentity;
  updates: number;
  layout: unknown;
}

async function readState(path: string): Promise<StateJson> {
  try {
    const json = JSON.parse(await readFile(path, 'utf8')) as StateJson;
    const { step, tokens, updates } = json;
    if (json.version === version && [step, tokens, updates].every(Number.isSafeInteger)) return json;
  } catch (error) {
    throw new SwiftKVError('ERR_IO', `Reading the checkpoint ${path} failed: ${(error as Error).message}`, {
      cause: error,
    });
  }
  throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${path} is no checkpoint of this version's trainer`);
}

function requireSame(path: string, saved: RunIdentity, wanted: RunIdentity): void {
  const keys = new Set([...Object.keys(saved), ...Object.keys(wanted)]);
  const different = [...keys].filter((key) => saved[key] !== wanted[key]);
  if (different.length === 0) return;
  const list = different.map((key) => `${key} was ${saved[key]} and is ${wanted[key]}`).join('; ');
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `${path} is of another run: ${list}. Give what it was begun with, or begin anew in another folder`,
  );
}

function layoutOf(model: TrainingModel): unknown {
  return model.parameters.trained.map(({ key, shape }) => ({ key, shape }));
}

async function savedSteps(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw new SwiftKVError('ERR_IO', `Reading ${folder} failed: ${error.message}`, { cause: error });
  });
  return names.filter((name) => /^step-\d{7,}$/.test(name)).sort((a, b) => Number(a.slice(5)) - Number(b.slice(5)));
}

/** SHA-256 of some files, one after the other, in 16 hex digits. @throws ERR_IO */
export async function hashFiles(paths: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const path of paths) {
    try {
      for await (const piece of createReadStream(path)) hash.update(piece);
    } catch (error) {
      throw new SwiftKVError('ERR_IO', `Reading ${path} failed: ${(error as Error).message}`, { cause: error });
    }
  }
  return hash.digest('hex').slice(0, 16);
}
