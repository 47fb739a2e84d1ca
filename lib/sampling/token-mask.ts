// Bitmasks of allowed tokens: bit i % 32 of word floor(i / 32) allows token i.

import { describe } from '../engine/validate.ts';
import { SwiftKVError } from '../errors.ts';

/** 32-bit words of a mask over the vocabulary. */
export function maskWords(vocabSize: number): number {
  return Math.ceil(vocabSize / 32);
}

/** A mask that allows these tokens and no others. */
export function maskOf(tokenIds: ArrayLike<number>, vocabSize: number): Uint32Array {
  const mask = new Uint32Array(maskWords(vocabSize));
  for (let i = 0; i < tokenIds.length; i++) {
    const id = tokenIds[i]!;
    mask[id >>> 5]! |= 1 << (id & 31);
  }
  return mask;
}

/**
 * What a caller's `tokenMask` said for the next token: a mask, or null for no limit.
 * @throws ERR_INVALID_ARGUMENT, with what it threw as the cause
 */
export function callTokenMask(
  tokenMask: (outputIds: Int32Array) => Uint32Array | null,
  outputIds: Int32Array,
  vocabSize: number,
): Uint32Array | null {
  let mask: unknown;
  try {
    mask = tokenMask(outputIds);
  } catch (error) {
    const reason = error instanceof Error ? error.message : describe(error);
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected tokenMask to return a mask but it threw: ${reason}`, {
      cause: error,
    });
  }
  if (mask === null) return null;
  const words = maskWords(vocabSize);
  if (mask instanceof Uint32Array && mask.length === words) return mask;
  const received = mask instanceof Uint32Array ? `one of ${mask.length}` : describe(mask);
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `Expected tokenMask to return a Uint32Array of ${words} words or null but received ${received}`,
  );
}
