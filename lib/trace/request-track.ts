// The phases of one answer, from the moment it is queued to its end.

import type { RequestMessage } from '../engine/channels.ts';

/** What an answer is doing. prefill again: after a preemption, until its next token. */
export type Phase = 'queued' | 'prefill' | 'decode' | 'preempted' | 'paused';

/** A time from one moment to another, of performance.now() in milliseconds. */
export type PhaseSink = (phase: Phase, from: number, to: number) => void;

/** Phases follow each other without gaps; a moment before the phase in progress counts as its beginning. */
export class RequestTrack {
  readonly tid: number;
  readonly since: number;
  preemptions = 0;

  private readonly sink: PhaseSink;
  private phaseSince: number;
  /** What it is doing, or would do if it were not paused. */
  private work: Exclude<Phase, 'paused'> = 'queued';
  private paused = false;

  constructor(tid: number, since: number, sink: PhaseSink) {
    this.tid = tid;
    this.since = since;
    this.phaseSince = since;
    this.sink = sink;
  }

  /** All but the end. */
  tell({ event, at }: RequestMessage): void {
    if (event === 'started') this.set('prefill', this.paused, at);
    else if (event === 'first token') this.set('decode', this.paused, at);
    else if (event === 'preempted') {
      this.preemptions++;
      this.set('preempted', this.paused, at);
    } else if (event === 'paused' || event === 'resumed') this.set(this.work, event === 'paused', at);
  }

  /** It had rows in a step. @param sample whether they gave it a token */
  step(startedAt: number, endedAt: number, sample: boolean): void {
    if (this.work === 'preempted') this.set('prefill', this.paused, startedAt);
    if (this.work === 'prefill' && sample) this.set('decode', this.paused, endedAt);
  }

  /** Nothing may follow. */
  end(at: number): void {
    this.sink(this.phase, this.phaseSince, Math.max(at, this.phaseSince));
  }

  private get phase(): Phase {
    return this.paused ? 'paused' : this.work;
  }

  private set(work: Exclude<Phase, 'paused'>, paused: boolean, at: number): void {
    const before = this.phase;
    const since = this.phaseSince;
    this.work = work;
    this.paused = paused;
    if (this.phase === before) return;
    this.phaseSince = Math.max(at, since);
    this.sink(before, since, this.phaseSince);
  }
}
