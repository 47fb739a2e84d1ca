// Fills a batch by hand, independently of the engine: which rows of which sequences a step has, and who survives.

import type { StepBatch } from '../../lib/model/runner.ts';

export interface Chunk {
  /** Row of the block table, and sampler slot. */
  row: number;
  blocks: readonly number[];
  ids: readonly number[];
  /** Position of ids[0]. */
  start: number;
  survivors: 'none' | 'last' | 'all';
}

/** Every survivor is a logit row. */
export function fillBatch(batch: StepBatch, chunks: readonly Chunk[]): { T: number; S: number } {
  const { maxBlocksPerSeq } = batch.capacity;
  let T = 0;
  let S = 0;
  let BS = 0;
  chunks.forEach(({ row, blocks, ids, start, survivors }, b) => {
    blocks.forEach((block, i) => {
      batch.blockTables[row * maxBlocksPerSeq + i] = block;
    });
    const contextLen = start + ids.length;
    batch.queryStartT[b] = T;
    batch.contextLenT[b] = contextLen;
    batch.tableRowT[b] = row;
    const firstSurvivor = { none: ids.length, last: ids.length - 1, all: 0 }[survivors];
    if (firstSurvivor < ids.length) {
      batch.queryStartS[BS] = S;
      batch.contextLenS[BS] = contextLen;
      batch.tableRowS[BS] = row;
      BS++;
    }
    ids.forEach((id, i) => {
      const position = start + i;
      batch.ids[T] = id;
      batch.positionsT[T] = position;
      batch.slotsT[T] = blocks[Math.floor(position / 16)]! * 16 + (position % 16);
      if (i >= firstSurvivor) {
        batch.survivors[S] = T;
        batch.positionsS[S] = position;
        batch.logitRows[S] = S;
        batch.samplerSlots[S] = row;
        batch.outputPositions[S] = 0;
        batch.forcedIds[S] = -1;
        batch.maskRows[S] = -1;
        S++;
      }
      T++;
    });
  });
  batch.queryStartT[chunks.length] = T;
  batch.queryStartS[BS] = S;
  batch.counts.set([T, S, S, chunks.length, BS, 0, 0]);
  return { T, S };
}

/** Block ids `from`, `from + 1`, ... for `tokens` tokens. */
export function blocksFor(tokens: number, from = 0): number[] {
  return Array.from({ length: Math.ceil(tokens / 16) }, (_, i) => from + i);
}
