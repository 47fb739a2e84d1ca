// Writes a plan into the integer arrays that native code reads. Runs once a step and allocates nothing.

import type { StepBatch } from '../model/runner.ts';
import type { PlanItem, StepPlan } from './step-plan.ts';

/** One of the two step batches, and what of the block tables has been written into it. */
export class BatchWriter {
  readonly batch: StepBatch;
  /** [maxSeqs] by slot: which state of which table is in the batch, and how many blocks of it. */
  private readonly tableVersion: Float64Array;
  private readonly tableOwner: (object | null)[];
  private readonly tableCount: Int32Array;

  constructor(batch: StepBatch) {
    const { maxSeqs } = batch.capacity;
    this.batch = batch;
    this.tableVersion = new Float64Array(maxSeqs).fill(-1);
    this.tableOwner = new Array(maxSeqs).fill(null);
    this.tableCount = new Int32Array(maxSeqs);
  }

  write(plan: StepPlan): void {
    const { batch } = this;
    let row = 0;
    let survivor = 0;
    let survivingSeqs = 0;
    batch.queryStartT[0] = 0;
    batch.queryStartS[0] = 0;
    for (let i = 0; i < plan.size; i++) {
      const item = plan.items[i]!;
      const { slot } = item.sequence;
      const contextLen = item.start + item.count;
      this.writeTable(item);
      this.writeRows(item, row);
      batch.contextLenT[i] = contextLen;
      batch.tableRowT[i] = slot;
      const survivors = item.count - item.survivors;
      if (survivors > 0) {
        for (let k = 0; k < survivors; k++) {
          batch.survivors[survivor + k] = row + item.survivors + k;
          batch.positionsS[survivor + k] = item.start + item.survivors + k;
        }
        survivor += survivors;
        batch.contextLenS[survivingSeqs] = contextLen;
        batch.tableRowS[survivingSeqs] = slot;
        survivingSeqs++;
        batch.queryStartS[survivingSeqs] = survivor;
        this.writeLogits(item, survivor);
      }
      row += item.count;
      batch.queryStartT[i + 1] = row;
    }
    const { counts } = batch;
    counts[0] = row;
    counts[1] = survivor;
    counts[2] = plan.logitRows;
    counts[3] = plan.size;
    counts[4] = survivingSeqs;
    counts[5] = plan.logprobRows;
    counts[6] = plan.numCopies;
    for (let i = 0; i < plan.numCopies; i++) {
      batch.copySources[i] = plan.copySources[i]!;
      batch.copyDestinations[i] = plan.copyDestinations[i]!;
    }
  }

  /** Limits the last row of an item to tokens that both masks allow, in row `row` of the masks; after `write`. */
  writeMask(item: PlanItem, row: number, first: Uint32Array | null, second: Uint32Array | null): boolean {
    const mask = first ?? second;
    if (mask === null) return false;
    const { masks, maskRows } = this.batch;
    const base = row * mask.length;
    masks.set(mask, base);
    if (second !== null) for (let i = 0; i < second.length; i++) masks[base + i]! &= second[i]!;
    maskRows[item.logitStart + item.logitRows - 1] = row;
    return true;
  }

  private writeRows(item: PlanItem, row: number): void {
    const { ids, positionsT, slotsT } = this.batch;
    const { tokens, table } = item.sequence;
    for (let k = 0; k < item.count; k++) {
      const position = item.start + k;
      ids[row + k] = tokens[position]!;
      positionsT[row + k] = position;
      slotsT[row + k] = table.slot(position);
    }
  }

  /** The item's logit rows are its last surviving ones; `end` is the surviving row after them. */
  private writeLogits(item: PlanItem, end: number): void {
    const { logitRows, samplerSlots, outputPositions, forcedIds, maskRows, logprobRows } = this.batch;
    const { sequence, logitStart } = item;
    const first = end - item.logitRows;
    const outputs = sequence.numOutput;
    for (let k = 0; k < item.logitRows; k++) {
      const row = logitStart + k;
      logitRows[row] = first + k;
      samplerSlots[row] = sequence.slot;
      outputPositions[row] = outputs;
      forcedIds[row] = -1;
      maskRows[row] = -1;
    }
    const position = item.start + item.count - item.logitRows;
    for (let k = 0; k < item.logprobRows; k++) {
      logprobRows[item.logprobStart + k] = logitStart + k;
      // The token that follows in the prompt is the one whose probability is wanted.
      const next = position + k + 1;
      if (next < sequence.promptLength) forcedIds[logitStart + k] = sequence.tokens[next]!;
    }
  }

  private writeTable(item: PlanItem): void {
    const { blockTables, capacity } = this.batch;
    const { slot, table } = item.sequence;
    const same = this.tableOwner[slot] === table && this.tableVersion[slot] === table.version;
    const from = same ? this.tableCount[slot]! : 0;
    const base = slot * capacity.maxBlocksPerSeq;
    for (let b = from; b < table.count; b++) blockTables[base + b] = table.blocks[b]!;
    this.tableOwner[slot] = table;
    this.tableVersion[slot] = table.version;
    this.tableCount[slot] = table.count;
  }
}
