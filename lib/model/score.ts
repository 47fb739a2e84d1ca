// Logits at every position of one sequence: a program of its own, small, so that it never waits for a step's memory.

import { SwiftKVError } from '../errors.ts';
import type { NativeBatch } from '../native/binding.ts';
import { abortError } from './abort.ts';
import { blockTokens } from './kv-cache.ts';
import type { StepProgram } from './step-program.ts';

export interface Score {
  program: StepProgram;
  /** Its capacity bounds the rows of a chunk. */
  batch: NativeBatch;
  vocabSize: number;
  maxModelLen: number;
  numBlocks: number;
}

/** [tokenIds.length, vocabSize], every row a survivor of the later layers; `blocks` hold the sequence meanwhile. */
export async function scoreSequence(
  score: Score,
  tokenIds: ArrayLike<number>,
  blocks: ArrayLike<number>,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const { program, batch, vocabSize } = score;
  const length = tokenIds.length;
  const needed = Math.ceil(length / blockTokens);
  checkInput(score, tokenIds, blocks, needed);
  const logits = new Float32Array(length * vocabSize);
  for (let i = 0; i < needed; i++) batch.blockTables[i] = blocks[i]!;
  const cancel = () => program.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  try {
    for (let start = 0; start < length; ) {
      if (signal?.aborted) throw abortError(signal);
      const rows = Math.min(batch.capacity.maxLogitRows, length - start);
      fillChunk(batch, tokenIds, blocks, start, rows);
      await program.run(batch);
      logits.set(program.read('logits', rows), start * vocabSize);
      start += rows;
    }
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
  return logits;
}

/** Rows [start, start + rows) of the sequence: T = S = R. */
function fillChunk(
  batch: NativeBatch,
  tokenIds: ArrayLike<number>,
  blocks: ArrayLike<number>,
  start: number,
  rows: number,
): void {
  batch.counts.set([rows, rows, rows, 1, 1, 0, 0]);
  for (let i = 0; i < rows; i++) {
    const position = start + i;
    batch.ids[i] = tokenIds[position]!;
    batch.positionsT[i] = position;
    batch.positionsS[i] = position;
    batch.slotsT[i] = blocks[Math.floor(position / blockTokens)]! * blockTokens + (position % blockTokens);
    batch.survivors[i] = i;
    batch.logitRows[i] = i;
  }
  for (const [queryStart, contextLen, tableRow] of [
    [batch.queryStartT, batch.contextLenT, batch.tableRowT],
    [batch.queryStartS, batch.contextLenS, batch.tableRowS],
  ] as const) {
    queryStart.set([0, rows]);
    contextLen[0] = start + rows;
    tableRow[0] = 0;
  }
}

function checkInput(score: Score, tokenIds: ArrayLike<number>, blocks: ArrayLike<number>, needed: number): void {
  const refuse = (expected: string, received: unknown): never => {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${expected} but received ${received}`);
  };
  if (tokenIds.length < 1 || tokenIds.length > score.maxModelLen) {
    refuse(`1 to ${score.maxModelLen} token ids`, tokenIds.length);
  }
  const isIndex = (value: number, end: number) => Number.isInteger(value) && value >= 0 && value < end;
  for (let i = 0; i < tokenIds.length; i++) {
    if (!isIndex(tokenIds[i]!, score.vocabSize)) refuse(`token ids below ${score.vocabSize}`, tokenIds[i]);
  }
  if (blocks.length < needed) refuse(`at least ${needed} blocks for ${tokenIds.length} tokens`, blocks.length);
  for (let i = 0; i < needed; i++) {
    if (!isIndex(blocks[i]!, score.numBlocks)) refuse(`block ids below ${score.numBlocks}`, blocks[i]);
  }
}
