// The options that every command which loads a model has, and the engine they give.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { Engine } from '../engine/engine.ts';
import type { EngineOptions } from '../engine/types.ts';
import { type DeviceName, parseDevice } from '../kernels/backend.ts';
import { resolveModel } from '../model/embedded.ts';
import { type ActivationDType, activationDTypes, type WeightDType, weightDTypes } from '../model/weight-dtype.ts';
import { progressBar } from './progress.ts';

export interface ModelFlags {
  device: DeviceName;
  batchInvariant: boolean;
  dtype: 'auto' | 'f32' | 'bf16';
  weightDtype: WeightDType;
  activationDtype: ActivationDType;
  kvDtype?: KvDType | undefined;
  threads?: number;
  isa?: string;
  maxModelLen?: number;
  kvCacheBytes?: number;
}

export const modelArgument = 'a Hugging Face folder, embedded:NAME, or random:NAME';

export const kvDTypes = ['f32', 'bf16', 'fp8'] as const;
export type KvDType = (typeof kvDTypes)[number];

const kvDtypeOption = () => new Option('--kv-dtype <type>', 'KV cache (default: as --dtype)').choices(kvDTypes);

/** @param kvDtype another form of --kv-dtype */
export function addModelOptions(command: Command, kvDtype: Option = kvDtypeOption()): Command {
  return command
    .addOption(new Option('--device <name>', 'where to run: cpu, cuda or cuda:N').argParser(deviceName).default('cpu'))
    .option('--no-batch-invariant', 'let cuda choose what is faster for a batch, so that bits depend on it')
    .addOption(
      new Option('--dtype <type>', 'what matrix products are computed in')
        .choices(['auto', 'f32', 'bf16'])
        .default('auto'),
    )
    .addOption(
      new Option('--weight-dtype <type>', 'what matrices are kept in; auto: FP8 as stored, else as --dtype')
        .choices(weightDTypes)
        .default('auto'),
    )
    .addOption(
      new Option('--activation-dtype <type>', 'fp8: quantize rows that enter products with FP8 weights')
        .choices(activationDTypes)
        .default('auto'),
    )
    .addOption(kvDtype)
    .option('--threads <n>', 'threads of the kernels (default: from affinity and cgroup quota)', positiveInteger)
    .option('--isa <level>', 'ISA level of the kernels (default: the best here)')
    .option('--max-model-len <n>', 'tokens a sequence may have, prompt and answer together', positiveInteger)
    .option('--kv-cache-bytes <size>', 'KV cache, e.g. 512MiB or 2GiB', byteSize);
}

/** Loads with a progress bar where there is a terminal. */
export async function loadEngine(model: string, flags: ModelFlags, signal: AbortSignal): Promise<Engine> {
  const bar = progressBar('loading');
  const options: EngineOptions = {
    device: flags.device,
    batchInvariant: flags.batchInvariant,
    dtype: flags.dtype,
    weightDtype: flags.weightDtype,
    activationDtype: flags.activationDtype,
    kvCacheDtype: flags.kvDtype,
    threads: flags.threads,
    isa: flags.isa,
    maxModelLen: flags.maxModelLen,
    kvCacheBytes: flags.kvCacheBytes,
    signal,
    onProgress: bar.update,
  };
  try {
    return await Engine.load(resolveModel(model), options);
  } finally {
    bar.done();
  }
}

function deviceName(text: string): DeviceName {
  try {
    parseDevice(text);
  } catch {
    throw new InvalidArgumentError('Expected cpu, cuda or cuda:N.');
  }
  return text as DeviceName;
}

export function positiveInteger(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) < 1) throw new InvalidArgumentError('Expected an integer >= 1.');
  return Number(text);
}

export function nonNegativeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError('Expected a number >= 0.');
  return value;
}

const unitBytes: Record<string, number> = {
  '': 1,
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
};

export function byteSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?$/.exec(text);
  if (match === null) throw new InvalidArgumentError('Expected a size such as 1048576, 512MiB or 2GiB.');
  return Math.floor(Number(match[1]) * unitBytes[match[2] ?? '']!);
}
