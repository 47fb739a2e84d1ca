// One pass of a load through an engine: every request is consumed as a stream, as a caller would, and timed there.

import { setMaxListeners } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import type { Engine } from '../../engine/engine.ts';
import { SwiftKVError, toSwiftKVError } from '../../errors.ts';
import { abortError } from '../../model/abort.ts';
import { type StepTotals, withSteps } from './throughput-steps.ts';

export interface PassRequest {
  tokenIds: Int32Array;
  maxTokens: number;
}

/** When requests are sent: at times from the start (ms), or so many at a time. */
export type Sending = { kind: 'times'; atMs: readonly number[] } | { kind: 'concurrency'; concurrency: number };

/** Milliseconds count from the time at which the request was to be sent, also where sending it was held up. */
export interface RequestRecord {
  promptTokens: number;
  completionTokens: number;
  /** Of the prompt, not computed because a prefix was in the cache. */
  cachedTokens: number;
  preemptions: number;
  /** Until its first step. */
  queueMs: number;
  ttftMs: number;
  /** Mean time per token after the first; null where there is none. */
  tpotMs: number | null;
  e2eMs: number;
  /** Between the parts of the stream; a part has more than one token where the reader was late. */
  gapsMs: number[];
}

export interface PassRecord {
  /** From the start to the end of the last request. */
  seconds: number;
  requests: RequestRecord[];
  steps: StepTotals;
}

/** @throws the error of the first request that fails, when all have ended */
export async function runPass(
  engine: Engine,
  requests: readonly PassRequest[],
  sending: Sending,
  signal: AbortSignal,
): Promise<PassRecord> {
  const controller = new AbortController();
  const either = AbortSignal.any([signal, controller.signal]);
  setMaxListeners(0, either);
  const { value, steps } = await withSteps(async () => {
    const start = performance.now();
    const work =
      sending.kind === 'times'
        ? requests.map((request, i) => sendAt(engine, request, start + sending.atMs[i]!, either))
        : sendAtATime(engine, requests, Math.min(sending.concurrency, requests.length), either);
    try {
      const records = (await Promise.all(work)).flat();
      return { seconds: (performance.now() - start) / 1e3, requests: records };
    } catch (error) {
      controller.abort();
      await Promise.allSettled(work);
      if (signal.aborted) throw abortError(signal);
      throw toSwiftKVError(error);
    }
  });
  return { ...value, steps };
}

async function sendAt(
  engine: Engine,
  request: PassRequest,
  dueAt: number,
  signal: AbortSignal,
): Promise<RequestRecord[]> {
  const waitMs = dueAt - performance.now();
  if (waitMs > 0) await setTimeout(waitMs, undefined, { signal });
  return [await consume(engine, request, Math.min(dueAt, performance.now()), signal)];
}

/** Readers that take the next request each when theirs has ended. */
function sendAtATime(
  engine: Engine,
  requests: readonly PassRequest[],
  readers: number,
  signal: AbortSignal,
): Promise<RequestRecord[]>[] {
  let next = 0;
  return Array.from({ length: readers }, async () => {
    const records: RequestRecord[] = [];
    while (next < requests.length) {
      const request = requests[next++]!;
      records.push(await consume(engine, request, performance.now(), signal));
    }
    return records;
  });
}

async function consume(
  engine: Engine,
  { tokenIds, maxTokens }: PassRequest,
  sentAt: number,
  signal: AbortSignal,
): Promise<RequestRecord> {
  const gapsMs: number[] = [];
  const consumedAt = performance.now();
  let firstAt = Number.NaN;
  let lastAt = Number.NaN;
  for await (const part of engine.generate({ tokenIds, maxTokens, temperature: 0, ignoreEos: true, signal })) {
    const now = performance.now();
    if (part.type === 'text') {
      if (Number.isNaN(firstAt)) firstAt = now;
      else gapsMs.push(now - lastAt);
      lastAt = now;
      continue;
    }
    const { usage, timings } = part;
    const { promptTokens, completionTokens, cachedTokens, preemptions } = usage;
    if (promptTokens !== tokenIds.length || completionTokens !== maxTokens) break;
    return {
      promptTokens,
      completionTokens,
      cachedTokens,
      preemptions,
      queueMs: consumedAt - sentAt + timings.queueMs,
      ttftMs: firstAt - sentAt,
      tpotMs: maxTokens > 1 ? (lastAt - firstAt) / (maxTokens - 1) : null,
      e2eMs: now - sentAt,
      gapsMs,
    };
  }
  throw new SwiftKVError('ERR_INTERNAL', `A request of ${tokenIds.length} and ${maxTokens} tokens ended with others`);
}
