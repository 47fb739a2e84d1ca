// What one step will do. The objects are made once and used again for every step.

import type { Sequence } from './sequence.ts';

/** Rows [start, start + count) of a sequence's tokens. */
export interface PlanItem {
  sequence: Sequence;
  start: number;
  count: number;
  /** Index of the first row of the item that takes the later layers; count = none does. The rest of the item follows. */
  survivors: number;
  /** Whether the last row gives the sequence's next token. */
  sample: boolean;
  /** Rows at the item's end whose logits are computed. */
  logitRows: number;
  /** Where they begin among the logit rows of the step. Items that are scored come first. */
  logitStart: number;
}

export class StepPlan {
  /** The first `size` are valid. */
  readonly items: PlanItem[] = [];
  size = 0;
  rows = 0;
  logitRows = 0;
  /** Logit rows of scored items: the first ones of the step. */
  scoredRows = 0;
  /** Items that are pieces of a prompt rather than decodes. */
  numChunks = 0;

  reset(): void {
    this.size = 0;
    this.rows = 0;
    this.logitRows = 0;
    this.scoredRows = 0;
    this.numChunks = 0;
  }

  /** Adds the next `count` tokens of a sequence that are not in the cache. */
  add(sequence: Sequence, count: number): PlanItem {
    let item = this.items[this.size];
    if (item === undefined) {
      item = { sequence, start: 0, count: 0, survivors: 0, sample: false, logitRows: 0, logitStart: 0 };
      this.items.push(item);
    }
    this.size++;
    const completes = count === sequence.remaining;
    item.sequence = sequence;
    item.start = sequence.numComputed;
    item.count = count;
    item.sample = completes && !sequence.scoring;
    if (sequence.fullDepth) item.survivors = 0;
    else item.survivors = completes ? count - 1 : count;
    if (sequence.scoring) item.logitRows = count;
    else item.logitRows = completes ? 1 : 0;
    this.rows += count;
    this.logitRows += item.logitRows;
    if (sequence.scoring) this.scoredRows += count;
    return item;
  }

  /** Gives logit rows their places, once every item is there. */
  seal(): void {
    let scored = 0;
    let sampled = this.scoredRows;
    for (let i = 0; i < this.size; i++) {
      const item = this.items[i]!;
      if (item.sequence.scoring) {
        item.logitStart = scored;
        scored += item.logitRows;
      } else {
        item.logitStart = sampled;
        sampled += item.logitRows;
      }
    }
  }
}
