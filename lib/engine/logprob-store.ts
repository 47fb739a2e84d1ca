// Log-probabilities of a request's tokens, as the steps deliver them, kept in typed arrays until somebody reads them.

import type { StepBatch } from '../model/runner.ts';
import type { TokenLogprob } from './types.ts';

const minCapacity = 32;

export class LogprobStore {
  /** Most likely tokens that are kept beside each token. */
  readonly top: number;
  private chosen = new Float32Array(0);
  private ranks = new Int32Array(0);
  private topIds = new Int32Array(0);
  private topLogprobs = new Float32Array(0);

  /** @param top at most the batch's maxTopLogprobs */
  constructor(top: number) {
    this.top = top;
  }

  /** Copies logprob row `row` of a finished step to token `index`. */
  set(index: number, batch: StepBatch, row: number): void {
    const { top } = this;
    this.reserve(index + 1);
    this.chosen[index] = batch.chosenLogprobs[row]!;
    this.ranks[index] = batch.ranks[row]!;
    const from = row * batch.capacity.maxTopLogprobs;
    for (let k = 0; k < top; k++) {
      this.topIds[index * top + k] = batch.topIds[from + k]!;
      this.topLogprobs[index * top + k] = batch.topLogprobs[from + k]!;
    }
  }

  /** @param tokenIds the tokens at [from, from + tokenIds.length) */
  read(from: number, tokenIds: ArrayLike<number>): TokenLogprob[] {
    return Array.from(tokenIds, (tokenId, i) => {
      const at = (from + i) * this.top;
      const top = Array.from({ length: this.top }, (_, k) => ({
        tokenId: this.topIds[at + k]!,
        logprob: this.topLogprobs[at + k]!,
      }));
      return { tokenId, logprob: this.chosen[from + i]!, rank: this.ranks[from + i]!, top };
    });
  }

  private reserve(count: number): void {
    if (count <= this.chosen.length) return;
    const capacity = Math.max(minCapacity, count, this.chosen.length * 2);
    this.chosen = grown(this.chosen, new Float32Array(capacity));
    this.ranks = grown(this.ranks, new Int32Array(capacity));
    this.topIds = grown(this.topIds, new Int32Array(capacity * this.top));
    this.topLogprobs = grown(this.topLogprobs, new Float32Array(capacity * this.top));
  }
}

function grown<T extends Float32Array | Int32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
