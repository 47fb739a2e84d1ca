// A request inside the engine's loop: its sequence, its sampler, when things happened, and whom to tell.

import type { SwiftKVError } from '../errors.ts';
import type { SamplerState } from '../native/binding.ts';
import type { Sequence } from './sequence.ts';

/** Called from the loop while the next step runs. Must not throw. */
export interface JobListener {
  /** The sequence got tokens, or is finished. */
  onUpdate(): void;
  /** The request failed; nothing else follows. */
  onError(error: SwiftKVError): void;
}

export class Job {
  readonly sequence: Sequence;
  readonly sampler: SamplerState;
  readonly listener: JobListener;
  /** [promptLength, vocabSize] for a scored sequence. */
  readonly logits: Float32Array | null;
  /** Of performance.now(); NaN = not yet. */
  startedAt = Number.NaN;
  firstTokenAt = Number.NaN;
  lastTokenAt = Number.NaN;
  endedAt = Number.NaN;

  constructor(sequence: Sequence, sampler: SamplerState, listener: JobListener, logits: Float32Array | null = null) {
    this.sequence = sequence;
    this.sampler = sampler;
    this.listener = listener;
    this.logits = logits;
  }
}
