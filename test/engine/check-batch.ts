// Everything of a step that kernels would follow blindly.

import type { StepBatch } from '../../lib/model/runner.ts';
import type { BatchCapacity, SamplerState } from '../../lib/native/binding.ts';

/** What is known of the model beside the batch. */
export interface Known {
  readonly capacity: BatchCapacity;
  readonly numBlocks: number;
  readonly maxModelLen: number;
  /** By slot: tokens in the cache; -1 after setSampler. */
  readonly computed: readonly number[];
  readonly samplers: readonly (SamplerState | null)[];
}

/** Throws, and complains, at the first thing that is wrong. */
export function checkBatch(b: StepBatch, known: Known): void {
  const { maxRows, maxSeqs, maxLogitRows, maxBlocksPerSeq, maxCopies } = known.capacity;
  const [T, S, R, BT, BS, P] = b.counts as unknown as [number, number, number, number, number, number];
  check(T >= 1 && T <= maxRows, `${T} rows`);
  check(S >= 0 && S <= T && R >= 0 && R <= S && R <= maxLogitRows, `S ${S} R ${R}`);
  check(BT >= 1 && BT <= maxSeqs && BS >= 0 && BS <= BT, `BT ${BT} BS ${BS}`);
  check(b.queryStartT[0] === 0 && b.queryStartT[BT] === T, 'queryStartT');
  check(b.queryStartS[0] === 0 && b.queryStartS[BS] === S, 'queryStartS');

  const C = b.counts[6]!;
  check(C >= 0 && C <= maxCopies, `${C} copies`);
  const copied = new Set(b.copyDestinations.subarray(0, C));
  check(copied.size === C, 'a block is the destination of two copies');
  for (let i = 0; i < C; i++) {
    for (const block of [b.copySources[i]!, b.copyDestinations[i]!]) {
      check(block >= 0 && block < known.numBlocks, `block ${block} of copy ${i}`);
    }
    check(!copied.has(b.copySources[i]!), `block ${b.copySources[i]} is both read and written by copies`);
  }

  const slots = new Set<number>();
  const rowsOfTable = new Set<number>();
  /** By block: the sequence of the step that writes to it. */
  const writers = new Map<number, number>();
  /** Blocks of the tables so far. */
  const shared = new Set<number>();
  const sequenceOfRow: number[] = [];
  for (let s = 0; s < BT; s++) {
    const [from, to] = [b.queryStartT[s]!, b.queryStartT[s + 1]!];
    const tableRow = b.tableRowT[s]!;
    check(to > from, `sequence ${s} has no rows`);
    check(tableRow >= 0 && tableRow < maxSeqs && !rowsOfTable.has(tableRow), `table row ${tableRow}`);
    rowsOfTable.add(tableRow);
    const contextLen = b.contextLenT[s]!;
    check(contextLen === b.positionsT[to - 1]! + 1 && contextLen <= known.maxModelLen, `context length ${contextLen}`);
    const table = b.blockTables.subarray(tableRow * maxBlocksPerSeq);
    const blocks = new Set<number>();
    for (let i = 0; i < Math.ceil(contextLen / 16); i++) {
      const block = table[i]!;
      check(block >= 0 && block < known.numBlocks && !blocks.has(block), `block ${block}`);
      blocks.add(block);
      check(!copied.has(block) || !shared.has(block), `two sequences share the copy ${block}`);
      shared.add(block);
    }
    for (let row = from; row < to; row++) {
      sequenceOfRow.push(s);
      const position = b.positionsT[row]!;
      check(position >= 0 && position === b.positionsT[from]! + row - from, `position ${position} of row ${row}`);
      const slot = b.slotsT[row]!;
      check(slot === table[position >> 4]! * 16 + (position & 15), `slot ${slot} of position ${position}`);
      check(!slots.has(slot), `slot ${slot} is written twice`);
      slots.add(slot);
      writers.set(slot >> 4, s);
      check(b.ids[row]! >= 0 && b.ids[row]! < known.capacity.vocabSize, `token ${b.ids[row]}`);
    }
    const start = b.positionsT[from]!;
    const computed = known.computed[tableRow]!;
    check(computed < 0 || start === computed, `sequence at table row ${tableRow} jumps from ${computed} to ${start}`);
  }
  for (let s = 0; s < BT; s++) {
    const table = b.blockTables.subarray(b.tableRowT[s]! * maxBlocksPerSeq);
    for (let i = 0; i < Math.ceil(b.contextLenT[s]! / 16); i++) {
      const writer = writers.get(table[i]!) ?? s;
      check(writer === s, `block ${table[i]} is read by sequence ${s} of the step and written by ${writer}`);
    }
  }

  let at = 0;
  for (let s = 0; s < BS; s++) {
    const [from, to] = [b.queryStartS[s]!, b.queryStartS[s + 1]!];
    check(to > from, `surviving sequence ${s} has no rows`);
    const half = sequenceOfRow[b.survivors[from]!]!;
    check(b.tableRowS[s] === b.tableRowT[half] && b.contextLenS[s] === b.contextLenT[half], `surviving sequence ${s}`);
    check(b.survivors[to - 1] === b.queryStartT[half + 1]! - 1, `survivors of sequence ${half} are no suffix`);
    for (let i = from; i < to; i++) {
      const row = b.survivors[i]!;
      check(row >= at && row < T && sequenceOfRow[row] === half, `survivor ${i} is row ${row}`);
      check(i === from || row === b.survivors[i - 1]! + 1, `survivors of sequence ${half} have a gap`);
      check(b.positionsS[i] === b.positionsT[row], `position of survivor ${i}`);
      at = row + 1;
    }
  }

  const logitRows = new Set<number>();
  for (let i = 0; i < R; i++) {
    const row = b.logitRows[i]!;
    check(row >= 0 && row < S && !logitRows.has(row), `logit row ${row}`);
    logitRows.add(row);
    const tableRow = b.tableRowT[sequenceOfRow[b.survivors[row]!]!]!;
    check(b.samplerSlots[i] === tableRow, `sampler slot ${b.samplerSlots[i]} at table row ${tableRow}`);
    check(known.samplers[tableRow] !== null, `sampler ${tableRow} was never set`);
    check(b.outputPositions[i]! >= 0, `output position ${b.outputPositions[i]}`);
    check(b.forcedIds[i]! >= -1 && b.forcedIds[i]! < known.capacity.vocabSize, `forced token ${b.forcedIds[i]}`);
    check(b.maskRows[i]! >= -1 && b.maskRows[i]! < maxLogitRows, `mask row ${b.maskRows[i]}`);
  }
  check(P >= 0 && P <= R, `${P} logprob rows`);
  const reported = new Set(b.logprobRows.subarray(0, P));
  check(reported.size === P && [...reported].every((row) => row >= 0 && row < R), 'logprob rows');
}

/** Every complaint of every fake: one about a request that nobody waits for would go unseen otherwise. */
export const complaints: string[] = [];

export function check(condition: boolean, message: string): void {
  if (condition) return;
  complaints.push(message);
  throw new Error(`fake runner: ${message}`);
}
