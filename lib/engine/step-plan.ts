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
  /** Where they begin among the logit rows of the step. Items whose logits are read come first. */
  logitStart: number;
  /** How many of them, from the first one, report a log-probability, and where those begin among all of the step. */
  logprobRows: number;
  logprobStart: number;
}

export class StepPlan {
  /** The first `size` are valid. */
  readonly items: PlanItem[] = [];
  size = 0;
  rows = 0;
  logitRows = 0;
  /** Logit rows that are read as they are: the first ones of the step. */
  scoredRows = 0;
  logprobRows = 0;
  /** Items that are pieces of a prompt rather than decodes. */
  numChunks = 0;
  /** [maxCopies] blocks that are copied before anything else happens; the first `numCopies` are valid. */
  readonly copySources: Int32Array;
  readonly copyDestinations: Int32Array;
  numCopies = 0;
  /** Whose blocks the copies fill; they may have no rows in the step. */
  readonly copyOwners: Sequence[] = [];

  /** `maxCopies`: of the batches that the plan is written into. */
  constructor(maxCopies: number) {
    this.copySources = new Int32Array(maxCopies);
    this.copyDestinations = new Int32Array(maxCopies);
  }

  /** The step copies a block for a sequence, in every cache. No destination may be that of another copy, or a source. */
  addCopy(source: number, destination: number, owner: Sequence): void {
    this.copyOwners.push(owner);
    this.copySources[this.numCopies] = source;
    this.copyDestinations[this.numCopies++] = destination;
  }

  reset(): void {
    this.size = 0;
    this.numCopies = 0;
    this.copyOwners.length = 0;
    this.rows = 0;
    this.logitRows = 0;
    this.scoredRows = 0;
    this.logprobRows = 0;
    this.numChunks = 0;
  }

  /** Adds the next `count` tokens of a sequence that are not in the cache. */
  add(sequence: Sequence, count: number): PlanItem {
    let item = this.items[this.size];
    if (item === undefined) {
      item = {
        sequence,
        start: 0,
        count: 0,
        survivors: 0,
        sample: false,
        logitRows: 0,
        logitStart: 0,
        logprobRows: 0,
        logprobStart: 0,
      };
      this.items.push(item);
    }
    this.size++;
    const completes = count === sequence.remaining;
    item.sequence = sequence;
    item.start = sequence.numComputed;
    item.count = count;
    item.sample = completes && sequence.maxTokens > 0;
    if (sequence.fullDepth) item.survivors = 0;
    else item.survivors = completes ? count - 1 : count;
    item.logitRows = sequence.logitRowsOf(count);
    item.logprobRows = logprobRowsOf(item);
    item.logprobStart = this.logprobRows;
    this.rows += count;
    this.logitRows += item.logitRows;
    this.logprobRows += item.logprobRows;
    if (sequence.scoring === 'logits') this.scoredRows += item.logitRows;
    return item;
  }

  /** Gives logit rows their places, once every item is there. */
  seal(): void {
    let scored = 0;
    let sampled = this.scoredRows;
    for (let i = 0; i < this.size; i++) {
      const item = this.items[i]!;
      if (item.sequence.scoring === 'logits') {
        item.logitStart = scored;
        scored += item.logitRows;
      } else {
        item.logitStart = sampled;
        sampled += item.logitRows;
      }
    }
  }
}

/** All rows that predict a token of the prompt, and the one that is sampled if the sequence wants to know. */
function logprobRowsOf(item: PlanItem): number {
  const { sequence, start, count, logitRows } = item;
  const end = start + count;
  const firstPosition = end - logitRows;
  const prompt =
    sequence.scoring === 'logprobs' ? Math.max(0, Math.min(end, sequence.promptLength - 1) - firstPosition) : 0;
  return prompt + (item.sample && sequence.logprobs ? 1 : 0);
}
