// A request inside the engine's loop: its sequence, its sampler, when things happened, and whom to tell.

import type { SwiftKVError } from '../errors.ts';
import type { SamplerState } from '../native/binding.ts';
import type { TokenMask } from './generate-options.ts';
import type { LogprobStore } from './logprob-store.ts';
import type { Sequence } from './sequence.ts';

/** Called from the loop while the next step runs. Must not throw. */
export interface JobListener {
  /** The sequence got tokens, or is finished. */
  onUpdate(): void;
  /** The request failed; nothing else follows. */
  onError(error: SwiftKVError): void;
}

/** What only some requests have. */
export interface JobExtras {
  /** [promptLength, vocabSize] for a sequence whose logits are read. */
  logits?: Float32Array | null;
  /** By output token. */
  logprobs?: LogprobStore | null;
  /** By prompt token; nothing is stored for the first. */
  promptLogprobs?: LogprobStore | null;
  /** Tokens that may be chosen, always and now. */
  allowed?: Uint32Array | null;
  tokenMask?: TokenMask | null;
}

export class Job {
  readonly sequence: Sequence;
  readonly sampler: SamplerState;
  readonly listener: JobListener;
  readonly logits: Float32Array | null;
  readonly logprobs: LogprobStore | null;
  readonly promptLogprobs: LogprobStore | null;
  readonly allowed: Uint32Array | null;
  readonly tokenMask: TokenMask | null;
  /** Counted by the engine's loop, shared by the answers to one request; -1 = not submitted. */
  id = -1;
  /** Which of those answers. */
  index = 0;
  /** Preemptions that the observer knows of. */
  seenPreemptions = 0;
  /** Of performance.now(); NaN = not yet. */
  startedAt = Number.NaN;
  firstTokenAt = Number.NaN;
  lastTokenAt = Number.NaN;
  endedAt = Number.NaN;

  constructor(sequence: Sequence, sampler: SamplerState, listener: JobListener, extras: JobExtras = {}) {
    const { logits = null, logprobs = null, promptLogprobs = null, allowed = null, tokenMask = null } = extras;
    this.sequence = sequence;
    this.sampler = sampler;
    this.listener = listener;
    this.logits = logits;
    this.logprobs = logprobs;
    this.promptLogprobs = promptLogprobs;
    this.allowed = allowed;
    this.tokenMask = tokenMask;
  }
}
