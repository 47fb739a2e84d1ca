// How large everything becomes: the defaults of a load, as pure functions of the model, the options and the machine.

import { SwiftKVError } from '../errors.ts';
import { formatBytes } from '../machine/memory.ts';
import type { BatchCapacity } from '../native/binding.ts';
import type { ModelConfig } from './config.ts';
import { blockTokens } from './kv-cache.ts';

/** Positions that are offered without being asked for: models name up to 128k, and each costs cache and a rope row. */
export const defaultMaxModelLen = 32_768;
/** The KV pool's default size: this many sequences of full length ... */
export const defaultFullSequences = 8;
/** ... but no more than this share of the memory that is left beside weights and workspace. */
export const defaultPoolShare = 0.25;
/** A device with memory of its own has nothing else to do with it: its pool takes this share, for all that may run. */
export const devicePoolShare = 0.9;

/** The most likely tokens of a row that a step can tell. */
export const maxTopLogprobs = 20;

/** Slots are int32. */
const maxBlocks = 2 ** 31 / blockTokens - 1;

export interface SizeOptions {
  /** Positions a sequence may have, answer included; at most `max_position_embeddings`. */
  maxModelLen?: number | undefined;
  /** Bytes of the KV pool; rounded down to whole blocks. */
  kvCacheBytes?: number | undefined;
  /** Rows of one step (the token budget), default 512. */
  maxRows?: number | undefined;
  /** Sequences that run at once, default 64. */
  maxSeqs?: number | undefined;
  /** Logit rows of one step, default 64. */
  maxLogitRows?: number | undefined;
}

export interface Sizes {
  maxModelLen: number;
  numBlocks: number;
  kvPoolBytes: number;
  ropeTableBytes: number;
  capacity: BatchCapacity;
}

/** Bytes that exist anyway: what the pool's default share is taken of. */
export interface MemoryBudget {
  /** What may be taken, `reserve` left out already. */
  available: number;
  /** What the process itself may need beside the sum while it loads and runs. */
  reserve: number;
  weights: number;
  /** Of the workspace, at the capacity of `chooseCapacity`. */
  workspace: number;
  /** It is a device's own memory, not shared with the process. */
  ownMemory?: boolean;
}

/**
 * What a load takes that no sum knows before: buffers that files are read through, scratch of ops, the tokenizer on the
 * JavaScript heap (6 MiB measured for a model of 13 MiB, mostly independent of it), and page tables (1/512 of all).
 */
export function processReserve(weights: number): number {
  return 32 * 2 ** 20 + Math.ceil(weights / 256);
}

/**
 * What a device takes beside the sum: scratch of ops, images of batches, sampler slots, the driver's tables, and
 * matrices whose rows are padded otherwise than the plan counts (2% holds for widths from 2048 on).
 */
export function deviceReserve(weights: number): number {
  return 64 * 2 ** 20 + Math.ceil(weights / 50);
}

/** The rows of one step. @throws ERR_INVALID_ARGUMENT */
export function chooseCapacity(config: ModelConfig, options: SizeOptions): Omit<BatchCapacity, 'maxBlocksPerSeq'> {
  const maxRows = positive('maxRows', options.maxRows ?? 512, 2 ** 20);
  const maxSeqs = positive('maxSeqs', options.maxSeqs ?? Math.min(64, maxRows), 2 ** 16);
  const maxLogitRows = positive('maxLogitRows', options.maxLogitRows ?? Math.min(64, maxRows), 2 ** 20);
  if (maxSeqs > maxRows) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected maxSeqs of at most maxRows (${maxRows}), since each running sequence has a row, but received ${maxSeqs}`,
    );
  }
  const { numLayers, vocabSize } = config;
  return {
    maxRows,
    maxSeqs,
    maxLogitRows,
    numLayers,
    vocabSize,
    maxTopLogprobs: Math.min(maxTopLogprobs, vocabSize),
    maxCopies: maxSeqs,
  };
}

/**
 * Without kvCacheBytes the pool holds `defaultFullSequences` sequences of maxModelLen, or what `defaultPoolShare` of the
 * free memory holds if that is less; in memory of a device's own, what `devicePoolShare` holds, up to maxSeqs sequences.
 * Without maxModelLen it is the model's, capped at `defaultMaxModelLen` and at what
 * the pool holds. What is asked for explicitly is never made smaller.
 * @throws ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY
 */
export function chooseSizes(
  config: ModelConfig,
  bytesPerToken: number,
  budget: MemoryBudget,
  options: SizeOptions,
): Sizes {
  const asked = options.maxModelLen;
  if (asked !== undefined && !(Number.isInteger(asked) && asked >= 1 && asked <= config.maxPositions)) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected an integer from 1 to ${config.maxPositions} (the model's max_position_embeddings) for maxModelLen ` +
        `but received ${asked}`,
    );
  }
  const capacity = chooseCapacity(config, options);
  const wantedLen = asked ?? Math.min(config.maxPositions, defaultMaxModelLen);
  const blockBytes = bytesPerToken * blockTokens;
  const room = budget.available - budget.weights - budget.workspace;
  const numBlocks =
    options.kvCacheBytes === undefined
      ? defaultBlocks(wantedLen, capacity.maxSeqs, blockBytes, room, asked !== undefined, budget.ownMemory ?? false)
      : Math.floor(positive('kvCacheBytes', options.kvCacheBytes, Number.MAX_SAFE_INTEGER) / blockBytes);
  if (numBlocks < 1) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected kvCacheBytes of at least ${blockBytes} (one block of ${blockTokens} tokens) ` +
        `but received ${options.kvCacheBytes}`,
    );
  }
  const maxModelLen = asked ?? Math.min(wantedLen, numBlocks * blockTokens);
  const kvPoolBytes = numBlocks * blockBytes;
  const ropeTableBytes = maxModelLen * config.headDim * 4;
  const bytes = { ...budget, workspace: budget.workspace + ropeTableBytes, kvPool: kvPoolBytes };
  if (bytes.weights + bytes.workspace + bytes.kvPool > budget.available) {
    throw new SwiftKVError('ERR_OUT_OF_MEMORY', describeSum(bytes));
  }
  if (numBlocks > maxBlocks) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected kvCacheBytes of at most ${maxBlocks * blockBytes} (${maxBlocks} blocks) ` +
        `but received ${options.kvCacheBytes}`,
    );
  }
  return {
    maxModelLen,
    numBlocks,
    kvPoolBytes,
    ropeTableBytes,
    capacity: { ...capacity, maxBlocksPerSeq: Math.ceil(maxModelLen / blockTokens) },
  };
}

function defaultBlocks(
  len: number,
  maxSeqs: number,
  blockBytes: number,
  room: number,
  explicitLen: boolean,
  ownMemory: boolean,
): number {
  const perSequence = Math.ceil(len / blockTokens);
  const wanted = perSequence * (ownMemory ? maxSeqs : Math.min(defaultFullSequences, maxSeqs));
  const affordable = Math.floor((room * (ownMemory ? devicePoolShare : defaultPoolShare)) / blockBytes);
  return Math.min(maxBlocks, Math.max(Math.min(wanted, affordable), explicitLen ? perSequence : 1));
}

/** The sum that did not fit, and what to do. */
export function describeSum(bytes: MemoryBudget & { kvPool: number }): string {
  const { weights, workspace, kvPool, available, reserve } = bytes;
  return (
    `The model needs ${formatBytes(weights + workspace + kvPool)}: weights ${formatBytes(weights)}, ` +
    `KV cache ${formatBytes(kvPool)}, workspace ${formatBytes(workspace)}; available are ${formatBytes(available)} ` +
    `beside ${formatBytes(reserve)} that the ${bytes.ownMemory ? 'device' : 'process itself'} may need. ` +
    'Lower kvCacheBytes, maxModelLen or maxRows, or use dtype bf16'
  );
}

function positive(name: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `Expected an integer from 1 to ${max} for ${name} but received ${value}`,
  );
}
