// One request as the scheduler sees it: token ids, how many of them are in the KV cache, and limits.

import { BlockTable } from './block-manager.ts';
import type { FinishReason } from './types.ts';

/**
 * waiting: not in the cache (new, or preempted); running: holds blocks and a slot; the others are final.
 * aborted: nobody wants the answer; failed: NaN logits, or its step failed.
 */
export type SequenceState = 'waiting' | 'running' | 'finished' | 'aborted' | 'failed';

export interface SequenceOptions {
  prompt: Int32Array;
  /** Tokens to generate at most; 0 for a sequence that is only scored. */
  maxTokens: number;
  /** Tokens that end it. */
  stopIds: ReadonlySet<number>;
  /** Every layer runs on every row. */
  fullDepth: boolean;
  /** Wants logits at every position instead of new tokens. Implies fullDepth. */
  scoring: boolean;
}

const minCapacity = 32;

export class Sequence {
  state: SequenceState = 'waiting';
  /** Row of the block tables, and sampler slot, while running; else -1. */
  slot = -1;
  /** Prompt, then output. The first `length` are valid. */
  tokens: Int32Array;
  length: number;
  /** Tokens whose K and V are in the cache. */
  numComputed = 0;
  finishReason: FinishReason | null = null;
  numPreemptions = 0;
  /** Row-layers run for this sequence, by the executor's counters, and those that its rows did not take. */
  rowLayersRun = 0;
  rowLayersSkipped = 0;

  readonly promptLength: number;
  readonly maxTokens: number;
  readonly stopIds: ReadonlySet<number>;
  readonly fullDepth: boolean;
  readonly scoring: boolean;
  readonly table: BlockTable;

  constructor(options: SequenceOptions) {
    this.promptLength = options.prompt.length;
    this.maxTokens = options.maxTokens;
    this.stopIds = options.stopIds;
    this.scoring = options.scoring;
    this.fullDepth = options.fullDepth || options.scoring;
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
    return !this.scoring && this.numComputed === this.length - 1;
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
    if (this.stopIds.has(id)) this.finishReason = 'stop';
    else if (this.length === this.maxLength) this.finishReason = 'length';
    return this.finishReason !== null;
  }
}
