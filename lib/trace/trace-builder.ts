// Turns what engines tell on their diagnostics channels into trace events. Keeps only what has not ended.

import type { RequestMessage, StepItem, StepMessage } from '../engine/channels.ts';
import type { TraceSink } from './event-file.ts';
import { RequestTrack } from './request-track.ts';

/** Tracks of an engine, which is a process of the trace. Answers have the numbers after them. */
export const stepsTrack = 1;
export const javascriptTrack = 2;

interface EngineTracks {
  /** Answers that have not ended, by request and index. */
  readonly answers: Map<string, RequestTrack>;
  nextTid: number;
  /** The counters that were last written. */
  counters: string;
}

export class TraceBuilder {
  private readonly sink: TraceSink;
  private readonly engines = new Map<number, EngineTracks>();

  constructor(sink: TraceSink) {
    this.sink = sink;
  }

  step(m: StepMessage): void {
    const { engine: pid, startedAt, endedAt } = m;
    const { answers } = this.tracksOf(pid);
    for (const item of m.items) answers.get(keyOf(item))?.step(startedAt, endedAt, item.sample && m.code === undefined);
    const plannedAt = startedAt - m.fillMs;
    this.slice(pid, javascriptTrack, 'schedule', plannedAt - m.scheduleMs, plannedAt);
    this.slice(pid, javascriptTrack, 'fill', plannedAt, startedAt);
    const submittedAt = startedAt + m.submitMs;
    this.slice(pid, javascriptTrack, 'submit', startedAt, submittedAt);
    this.slice(pid, javascriptTrack, 'notify', submittedAt, submittedAt + m.notifyMs);
    this.slice(pid, javascriptTrack, 'apply', endedAt, endedAt + m.applyMs);
    this.slice(pid, stepsTrack, stepName(m), startedAt, endedAt, stepArgs(m));
    this.counters(m);
  }

  request(m: RequestMessage): void {
    const { engine: pid, event, at } = m;
    const { answers } = this.tracksOf(pid);
    const key = keyOf(m);
    const track = answers.get(key) ?? this.addAnswer(m, key);
    if (event !== 'finished' && event !== 'aborted' && event !== 'failed') {
      track.tell(m);
      return;
    }
    answers.delete(key);
    const { promptTokens, cachedTokens, completionTokens, code } = m;
    const { preemptions } = track;
    this.endAnswer(pid, key, track, at, {
      end: event,
      promptTokens,
      cachedTokens,
      completionTokens,
      preemptions,
      ...(code !== undefined && { code }),
    });
  }

  /** Ends what is still open. */
  close(at: number): void {
    for (const [pid, { answers }] of this.engines) {
      for (const [key, track] of answers) this.endAnswer(pid, key, track, at, { end: 'open' });
      answers.clear();
    }
  }

  private tracksOf(pid: number): EngineTracks {
    let tracks = this.engines.get(pid);
    if (tracks === undefined) {
      tracks = { answers: new Map(), nextTid: javascriptTrack + 1, counters: '' };
      this.engines.set(pid, tracks);
      this.sink({ name: 'process_name', ph: 'M', pid, tid: 0, ts: 0, args: { name: `swiftkv engine ${pid}` } });
      this.nameTrack(pid, stepsTrack, 'steps');
      this.nameTrack(pid, javascriptTrack, 'JavaScript');
    }
    return tracks;
  }

  private addAnswer(m: RequestMessage, key: string): RequestTrack {
    const pid = m.engine;
    const tracks = this.tracksOf(pid);
    const tid = tracks.nextTid++;
    const track = new RequestTrack(tid, m.at, (phase, from, to) => this.slice(pid, tid, phase, from, to));
    tracks.answers.set(key, track);
    const name = `request ${key}`;
    this.nameTrack(pid, tid, name);
    // The whole answer, around its phases: it begins before the first of them, at the same moment.
    this.sink({ name, ph: 'B', pid, tid, ts: nanoseconds(m.at) / 1000, args: {} });
    return track;
  }

  private endAnswer(pid: number, key: string, track: RequestTrack, at: number, args: Args): void {
    const end = Math.max(at, track.since);
    track.end(end);
    this.sink({ name: `request ${key}`, ph: 'E', pid, tid: track.tid, ts: nanoseconds(end) / 1000, args });
  }

  /** Only where they changed. */
  private counters({ engine: pid, startedAt, running, waiting, freeBlocks }: StepMessage): void {
    const tracks = this.tracksOf(pid);
    const counters = `${running} ${waiting} ${freeBlocks}`;
    if (tracks.counters === counters) return;
    tracks.counters = counters;
    const ts = nanoseconds(startedAt) / 1000;
    this.sink({ name: 'sequences', ph: 'C', pid, tid: 0, ts, args: { running, waiting } });
    this.sink({ name: 'free blocks', ph: 'C', pid, tid: 0, ts, args: { free: freeBlocks } });
  }

  private nameTrack(pid: number, tid: number, name: string): void {
    this.sink({ name: 'thread_name', ph: 'M', pid, tid, ts: 0, args: { name } });
    this.sink({ name: 'thread_sort_index', ph: 'M', pid, tid, ts: 0, args: { sort_index: tid } });
  }

  private slice(pid: number, tid: number, name: string, from: number, to: number, args: Args = {}): void {
    // Whole nanoseconds, so that what ends together in milliseconds does so in the file.
    const start = nanoseconds(from);
    this.sink({ name, ph: 'X', pid, tid, ts: start / 1000, dur: (nanoseconds(to) - start) / 1000, args });
  }
}

type Args = Record<string, string | number>;

function nanoseconds(ms: number): number {
  return Math.round(ms * 1e6);
}

/** `3`, or `3.1` for its second answer. */
function keyOf({ request, index }: { request: number; index: number }): string {
  return index === 0 ? `${request}` : `${request}.${index}`;
}

function isDecode({ count, sample }: StepItem): boolean {
  return count === 1 && sample;
}

function stepName({ items }: StepMessage): string {
  const decodes = items.filter(isDecode).length;
  if (decodes === items.length) return 'decode';
  return decodes === 0 ? 'prefill' : 'mixed';
}

/** `decodes`: answers that get their next token; `chunks`: answer, first token + number of tokens. */
function stepArgs(m: StepMessage): Args {
  const { step, rows, survivors, logitRows, copies, preemptions, code } = m;
  const decodes = m.items.filter(isDecode).map(keyOf).join(' ');
  const chunks = m.items.filter((item) => !isDecode(item)).map((item) => `${keyOf(item)}:${item.start}+${item.count}`);
  return {
    step,
    rows,
    survivors,
    logitRows,
    copies,
    preemptions,
    decodes,
    chunks: chunks.join(' '),
    ...(code !== undefined && { code }),
  };
}
