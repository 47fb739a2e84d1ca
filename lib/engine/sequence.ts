// One request as the scheduler sees it: token ids, how many of them are in the KV cache, and limits.

import { BlockTable } from './block-manager.ts';
import type { FinishReason } from './types.ts';

/**
 * waiting: not in the cache (new, or preempted); running: holds blocks and a slot; the others are final.
 * aborted: nobody wants the answer; failed: NaN logits, or its step failed.
 */
export type SequenceState = 'waiting' | 'running' | 'finished' | 'aborted' | 'failed';

/** What is wanted at every position of a prompt: its logits, or the log-probability of the token that follows. */
export type Scoring = 'logits' | 'logprobs';

export interface SequenceOptions {
  prompt: Int32Array;
  /** Tokens to generate at most; 0 for a sequence that is only scored. */
  maxTokens: number;
  /** Tokens that end it. */
  stopIds: ReadonlySet<number>;
  /** Every layer runs on every row. */
  fullDepth?: boolean;
  /** Implies fullDepth. */
  scoring?: Scoring | null;
  /** Wants log-probabilities of its output. */
  logprobs?: boolean;
  /** Higher is sooner; default 0. */
  priority?: number;
  /** Where its chain of cached prefixes begins (`rootOf`, always negative); 0 (default): none is looked up or kept. */
  root?: number;
  /** Those it shares its prompt with, itself included. */
  group?: SequenceGroup | null;
}

/** The answers to one prompt: one of them computes it, the others wait for that and share its blocks. */
export class SequenceGroup {
  readonly members: Sequence[] = [];
}

const minCapacity = 32;

export class Sequence {
  state: SequenceState = 'waiting';
  /** Row of the block tables, and sampler slot, while running; else -1. */
  slot = -1;
  /** Prompt, then output. The first `length` are valid. */
  tokens: Int32Array;
  length: number;
  /** Tokens that it does not compute when it starts, whatever their K and V are: for measurements at a depth. */
  startAt = 0;
  /** Tokens whose K and V are in the cache. */
  numComputed = 0;
  /** When it came, among all sequences of its scheduler. */
  arrival = -1;
  /** Gets no rows, because nobody takes what it has. */
  paused = false;
  /** Whether the slot's sampler is this sequence's. */
  samplerSet = false;
  /** Prompt tokens that were in the cache when it first ran. */
  cachedTokens = 0;
  /** Prompt tokens whose rows have been scored; after a preemption they are not scored again. */
  numScored = 0;
  finishReason: FinishReason | null = null;
  /** The token or the string that ended it. */
  stopReason: number | string | null = null;
  numPreemptions = 0;
  /** Row-layers run for this sequence, by the executor's counters, and those that its rows did not take. */
  rowLayersRun = 0;
  rowLayersSkipped = 0;

  readonly promptLength: number;
  readonly maxTokens: number;
  readonly stopIds: ReadonlySet<number>;
  readonly fullDepth: boolean;
  readonly scoring: Scoring | null;
  readonly logprobs: boolean;
  readonly priority: number;
  readonly root: number;
  readonly group: SequenceGroup | null;
  readonly table: BlockTable;

  constructor(options: SequenceOptions) {
    this.promptLength = options.prompt.length;
    this.maxTokens = options.maxTokens;
    this.stopIds = options.stopIds;
    this.scoring = options.scoring ?? null;
    this.logprobs = options.logprobs ?? false;
    this.priority = options.priority ?? 0;
    this.root = options.root ?? 0;
    this.group = options.group ?? null;
    this.group?.members.push(this);
    this.fullDepth = (options.fullDepth ?? false) || this.scoring !== null;
    this.length = this.promptLength;
    this.tokens = new Int32Array(Math.min(this.maxLength, this.promptLength + minCapacity));
    this.tokens.set(options.prompt);
    this.table = new BlockTable(this.maxCached);
  }

  /** Tokens it can ever have. */
  get maxLength(): number {
    return this.promptLength + this.maxTokens;
  }

  /** Tokens whose K and V are ever needed: the last one generated is never fed back. */
  get maxCached(): number {
    return Math.max(this.promptLength, this.maxLength - 1);
  }

  get numOutput(): number {
    return this.length - this.promptLength;
  }

  /** Tokens that are not in the cache yet. */
  get remaining(): number {
    return this.length - this.numComputed;
  }

  /** One row away from its next token. */
  get decoding(): boolean {
    return this.maxTokens > 0 && this.numComputed === this.length - 1;
  }

  /** Rows at the end of its next `count` rows whose logits are wanted. */
  logitRowsOf(count: number): number {
    const end = this.numComputed + count;
    if (this.scoring !== null && this.numScored < this.promptLength) {
      return Math.max(0, end - Math.max(this.numComputed, this.numScored));
    }
    return count === this.remaining && this.maxTokens > 0 ? 1 : 0;
  }

  get ended(): boolean {
    return this.state !== 'waiting' && this.state !== 'running';
  }

  /** Adds a sampled token and says whether it was the last. */
  append(id: number): boolean {
    if (this.length === this.tokens.length) {
      const grown = new Int32Array(Math.min(this.maxLength, this.length * 2));
      grown.set(this.tokens);
      this.tokens = grown;
    }
    this.tokens[this.length++] = id;
    if (this.stopIds.has(id)) {
      this.finishReason = 'stop';
      this.stopReason = id;
    } else if (this.length === this.maxLength) this.finishReason = 'length';
    return this.finishReason !== null;
  }
}
