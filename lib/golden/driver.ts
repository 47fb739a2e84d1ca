// Drives a model step by step, with chunks, survivors and batch mixes chosen by the caller: no scheduler in between.

import type { ModelRunner, StepBatch } from '../model/runner.ts';
import { greedy } from '../sampling/options.ts';

const blockTokens = 16;
const none = new Int32Array(0);

/** Rows of one sequence in a step. */
export interface Piece {
  /** Which running sequence: its row in the block tables and its sampler slot. */
  slot: number;
  /** All tokens so far. */
  tokens: readonly number[];
  start: number;
  count: number;
  /** How many of its last rows run the later layers; all of them are logit rows. */
  survivors: number;
}

export interface StepOutput {
  /** [logit rows, V], in the order of the pieces. */
  logits: Float32Array;
  /** Greedy choice of each logit row. */
  ids: number[];
  /** Rows that entered each layer. */
  layerRows: number[];
}

/** Scatters a sequence's blocks over the pool: block b of slot s. Neighbouring tokens are not neighbours in memory. */
export function blockOf(runner: ModelRunner, slot: number, block: number): number {
  const perSequence = Math.floor(runner.numBlocks / runner.capacity.maxSeqs);
  return (perSequence - 1 - block) * runner.capacity.maxSeqs + slot;
}

/** The place of a token in the pool. */
export function slotOf(runner: ModelRunner, slot: number, position: number): number {
  return blockOf(runner, slot, Math.floor(position / blockTokens)) * blockTokens + (position % blockTokens);
}

export function writeStep(runner: ModelRunner, batch: StepBatch, pieces: readonly Piece[]): void {
  const { maxBlocksPerSeq } = runner.capacity;
  let [row, survivor, half] = [0, 0, 0];
  pieces.forEach(({ slot, tokens, start, count, survivors }, i) => {
    batch.queryStartT[i] = row;
    batch.contextLenT[i] = start + count;
    batch.tableRowT[i] = slot;
    for (let b = 0; b * blockTokens < start + count; b++) {
      batch.blockTables[slot * maxBlocksPerSeq + b] = blockOf(runner, slot, b);
    }
    if (survivors > 0) {
      batch.queryStartS[half] = survivor;
      batch.contextLenS[half] = start + count;
      batch.tableRowS[half] = slot;
      half++;
    }
    for (let position = start; position < start + count; position++, row++) {
      batch.ids[row] = tokens[position]!;
      batch.positionsT[row] = position;
      batch.slotsT[row] = slotOf(runner, slot, position);
      if (position < start + count - survivors) continue;
      batch.survivors[survivor] = row;
      batch.positionsS[survivor] = position;
      batch.logitRows[survivor] = survivor;
      batch.samplerSlots[survivor] = slot;
      batch.outputPositions[survivor] = 0;
      batch.forcedIds[survivor] = -1;
      batch.maskRows[survivor] = -1;
      survivor++;
    }
  });
  batch.queryStartT[pieces.length] = row;
  batch.queryStartS[half] = survivor;
  batch.counts.set([row, survivor, survivor, pieces.length, half, 0, 0]);
}

export class Driver {
  readonly runner: ModelRunner;
  #steps = 0;

  constructor(runner: ModelRunner) {
    this.runner = runner;
    for (let slot = 0; slot < runner.capacity.maxSeqs; slot++) {
      runner.setSampler(slot, greedy, none, none);
    }
  }

  async step(pieces: readonly Piece[]): Promise<StepOutput> {
    const { runner } = this;
    const batch = runner.batches[this.#steps++ & 1]!;
    writeStep(runner, batch, pieces);
    await runner.run(batch);
    const rows = batch.counts[2]!;
    return {
      logits: rows === 0 ? new Float32Array(0) : runner.readLogits(rows).slice(),
      ids: [...batch.sampledIds.subarray(0, rows)],
      layerRows: [...batch.layerRows],
    };
  }

  /**
   * A whole prompt in chunks. `fullDepth`: all rows survive, and all their logits come back; else the last one's.
   * `layerRows` sums over the chunks.
   */
  async prefill(slot: number, tokens: readonly number[], chunk: number, fullDepth = false): Promise<StepOutput> {
    const logits: Float32Array[] = [];
    const layerRows = new Array<number>(this.runner.config.numLayers).fill(0);
    let ids: number[] = [];
    for (let start = 0; start < tokens.length; start += chunk) {
      const count = Math.min(chunk, tokens.length - start);
      const isLast = start + count === tokens.length;
      const survivors = fullDepth ? count : isLast ? 1 : 0;
      const output = await this.step([{ slot, tokens, start, count, survivors }]);
      logits.push(output.logits);
      ids = output.ids;
      output.layerRows.forEach((rows, layer) => {
        layerRows[layer]! += rows;
      });
    }
    return { logits: concat(logits), ids, layerRows };
  }

  /** Greedy continuation after a prompt that is in the cache, from the first chosen token. */
  async decode(slot: number, prompt: readonly number[], first: number, count: number): Promise<number[]> {
    const tokens = [...prompt, first];
    while (tokens.length < prompt.length + count) {
      const { ids } = await this.step([{ slot, tokens, start: tokens.length - 1, count: 1, survivors: 1 }]);
      tokens.push(ids[0]!);
    }
    return tokens.slice(prompt.length);
  }
}

export function concat(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
