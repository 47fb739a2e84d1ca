// What `bench throughput` makes of what it sees: passes through a fake engine, figures of made-up records.

import { channel } from 'node:diagnostics_channel';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { decodeFlops, prefillFlops, requestFlops } from '../../lib/cli/bench/flops.ts';
import { meetsObjective } from '../../lib/cli/bench/objective.ts';
import { overRounds, passFigures } from '../../lib/cli/bench/throughput-figures.ts';
import { type PassRecord, type RequestRecord, runPass } from '../../lib/cli/bench/throughput-pass.ts';
import { ratioOf } from '../../lib/cli/bench/throughput-result.ts';
import type { Engine } from '../../lib/engine/engine.ts';
import type { GenerateOptions } from '../../lib/engine/types.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { parseRandomModel } from '../../lib/model/random.ts';

const record = (fields: Partial<RequestRecord> = {}): RequestRecord => ({
  promptTokens: 10,
  completionTokens: 3,
  cachedTokens: 0,
  preemptions: 0,
  queueMs: 1,
  ttftMs: 100,
  tpotMs: 20,
  e2eMs: 140,
  gapsMs: [20, 20],
  ...fields,
});
const noSteps = { steps: 0, rows: 0, ms: 0, jsMs: 0, running: 0, maxRunning: 0 };

describe('figures of a pass', () => {
  it('count tokens over the time from the start to the last end', () => {
    const requests = [record({ cachedTokens: 16, preemptions: 2 }), record({ promptTokens: 30, preemptions: 1 })];
    const steps = { steps: 4, rows: 46, ms: 100, jsMs: 2, running: 6, maxRunning: 2 };
    expect(passFigures({ seconds: 2, requests, steps }, null)).toMatchObject({
      combinedTokensPerSecond: 23,
      inputTokensPerSecond: 20,
      outputTokensPerSecond: 3,
      requestsPerSecond: 1,
      prefixHitTokens: 16,
      preemptions: 3,
      rowsPerStep: 11.5,
      stepMs: 25,
      jsMicrosecondsPerStep: 500,
      meanRunning: 1.5,
      maxRunning: 2,
      goodShare: null,
      goodRequestsPerSecond: null,
    });
  });

  it('have percentiles that are interpolated between neighbours', () => {
    const requests = Array.from({ length: 101 }, (_, i) => record({ ttftMs: 100 - i, e2eMs: 200 + i, gapsMs: [i] }));
    const figures = passFigures({ seconds: 1, requests, steps: noSteps }, null);
    expect(figures).toMatchObject({ ttftP50Ms: 50, ttftP90Ms: 90, ttftP99Ms: 99, itlP90Ms: 90, e2eP50Ms: 250 });
    const two = passFigures({ seconds: 1, requests: requests.slice(0, 2), steps: noSteps }, null);
    expect(two.ttftP90Ms).toBeCloseTo(99.9, 9);
  });

  it('have no time between tokens where there is one token each, and no steps where none were told of', () => {
    const requests = [record({ completionTokens: 1, tpotMs: null, gapsMs: [] })];
    const figures = passFigures({ seconds: 1, requests, steps: noSteps }, null);
    expect(figures).toMatchObject({
      tpotP50Ms: null,
      itlP99Ms: null,
      rowsPerStep: null,
      maxRunning: null,
      ttftP50Ms: 100,
    });
  });

  it('count as good what meets every part of the objective', () => {
    const requests = [record(), record({ ttftMs: 101 }), record({ tpotMs: 21 }), record({ tpotMs: null })];
    const pass: PassRecord = { seconds: 4, requests, steps: noSteps };
    expect(passFigures(pass, { ttft: 100, tpot: 20 })).toMatchObject({ goodShare: 0.5, goodRequestsPerSecond: 0.5 });
    expect(passFigures(pass, { e2e: 139 })).toMatchObject({ goodShare: 0, goodRequestsPerSecond: 0 });
    expect(passFigures(pass, {})).toMatchObject({ goodShare: 1, goodRequestsPerSecond: 1 });
    expect(meetsObjective(record({ e2eMs: 140 }), { e2e: 140 })).toBe(true);
  });

  it('over rounds have a median and a range, and nothing where no round had any', () => {
    const figures = [3, 1, 2].map((seconds) => passFigures({ seconds, requests: [record()], steps: noSteps }, null));
    expect(overRounds(figures)).toMatchObject({
      seconds: { median: 2, min: 1, max: 3, rounds: [3, 1, 2] },
      goodShare: null,
      ttftP50Ms: { median: 100, min: 100, max: 100 },
    });
  });

  it('are compared round by round', () => {
    expect(ratioOf([2, 6, 4], [1, 2, 4])).toEqual({ median: 2, min: 1, max: 3 });
    expect(ratioOf([2, null], [1, 2])).toEqual({ median: 2, min: 2, max: 2 });
    expect(ratioOf([null], [1])).toBeNull();
  });
});

it('the FLOPs of a request are those of its prompt and of every token that is fed back', () => {
  for (const form of ['', '?kv-layers=50%&group=2']) {
    const { config } = parseRandomModel(`random:embedded${form}`);
    let sum = prefillFlops(config, 100);
    for (let token = 0; token < 9; token++) {
      expect(requestFlops(config, 100, token + 1)).toBeCloseTo(sum, 0);
      sum += decodeFlops(config, 100 + token);
    }
  }
});

/** Answers a token each `ms` after the last one, as a stream. */
class FakeEngine {
  running = 0;
  most = 0;
  aborted = 0;
  readonly #answer: (options: GenerateOptions) => number;

  /** @param answer milliseconds of a token; throws where the request fails */
  constructor(answer: (options: GenerateOptions) => number) {
    this.#answer = answer;
  }

  async *generate(options: GenerateOptions) {
    this.most = Math.max(this.most, ++this.running);
    try {
      const ms = this.#answer(options);
      for (let i = 0; i < options.maxTokens!; i++) {
        await setTimeout(ms, undefined, { signal: options.signal! }).catch(() => {
          this.aborted++;
          throw new SwiftKVError('ERR_ABORTED', 'aborted');
        });
        yield { type: 'text', text: '', tokenIds: [1], logprobs: null };
      }
      const usage = { promptTokens: options.tokenIds!.length, completionTokens: options.maxTokens!, cachedTokens: 0 };
      yield { type: 'finish', usage: { ...usage, preemptions: 0 }, timings: { queueMs: 0 } };
    } finally {
      this.running--;
    }
  }

  get engine(): Engine {
    return this as unknown as Engine;
  }
}

describe('a pass', () => {
  const { signal } = new AbortController();
  const requests = (count: number, maxTokens = 2) =>
    Array.from({ length: count }, (_, i) => ({ tokenIds: new Int32Array(i + 1), maxTokens }));

  it('never has more requests at a time than asked, and sends each once', async () => {
    const fake = new FakeEngine(() => 1);
    const pass = await runPass(fake.engine, requests(9), { kind: 'concurrency', concurrency: 3 }, signal);
    expect(fake.most).toBe(3);
    expect(pass.requests.map((r) => r.promptTokens).sort()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const all = await runPass(
      fake.engine,
      requests(9),
      { kind: 'concurrency', concurrency: Number.POSITIVE_INFINITY },
      signal,
    );
    expect(all.requests).toHaveLength(9);
    expect(fake.most).toBe(9);
  });

  it('sends at its times, and counts from them when it was held up', async () => {
    const fake = new FakeEngine(() => {
      // The first request blocks the thread beyond the time of the second.
      const until = performance.now() + 30;
      while (performance.now() < until);
      return 0;
    });
    const pass = await runPass(fake.engine, requests(2, 1), { kind: 'times', atMs: [0, 5] }, signal);
    expect(pass.requests.map((r) => r.promptTokens)).toEqual([1, 2]);
    expect(pass.requests[1]!.queueMs).toBeGreaterThanOrEqual(24);
    expect(pass.requests[1]!.ttftMs).toBeGreaterThanOrEqual(50);
    expect(pass.requests[1]).toMatchObject({ completionTokens: 1, tpotMs: null, gapsMs: [] });
    expect(pass.seconds).toBeGreaterThan(0.05);
  });

  it('fails with the first request that fails, when the others have been stopped', async () => {
    const fake = new FakeEngine(({ tokenIds }) => {
      if (tokenIds!.length === 2) throw new SwiftKVError('ERR_NUMERIC', 'NaN');
      return 10_000;
    });
    for (const sending of [
      { kind: 'concurrency', concurrency: 3 } as const,
      { kind: 'times', atMs: [0, 1, 60_000] } as const,
    ]) {
      await expect(runPass(fake.engine, requests(3), sending, signal)).rejects.toMatchObject({ code: 'ERR_NUMERIC' });
      expect(fake.running).toBe(0);
    }
    expect(fake.aborted).toBeGreaterThan(0);
  });

  it('stops when it is interrupted, also between arrivals', async () => {
    const fake = new FakeEngine(() => 1);
    const pass = runPass(fake.engine, requests(1), { kind: 'times', atMs: [60_000] }, AbortSignal.timeout(5));
    await expect(pass).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  it('refuses an answer of another length', async () => {
    const short = {
      async *generate() {
        yield { type: 'finish', usage: { promptTokens: 1, completionTokens: 1 }, timings: {} };
      },
    } as unknown as Engine;
    const pass = runPass(short, requests(1), { kind: 'concurrency', concurrency: 1 }, signal);
    await expect(pass).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
  });

  it('adds up the steps that the engine tells of meanwhile, and listens no longer', async () => {
    const steps = channel('swiftkv:step');
    const step = {
      startedAt: 5,
      endedAt: 8,
      scheduleMs: 1,
      fillMs: 0.5,
      notifyMs: 0.125,
      applyMs: 0.125,
      rows: 7,
      running: 2,
    };
    const fake = new FakeEngine(() => {
      steps.publish(step);
      steps.publish({ ...step, code: 'ERR_ABORTED' });
      return 0;
    });
    const { steps: totals } = await runPass(fake.engine, requests(3), { kind: 'concurrency', concurrency: 3 }, signal);
    expect(totals).toEqual({ steps: 3, rows: 21, ms: 9, jsMs: 5.25, running: 6, maxRunning: 2 });
    expect(steps.hasSubscribers).toBe(false);
  });
});
