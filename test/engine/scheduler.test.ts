// Who runs, for how many tokens, in what order; and that nobody starves, however small the cache.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockManager } from '../../lib/engine/block-manager.ts';
import type { Scheduler, SchedulerLimits } from '../../lib/engine/scheduler.ts';
import type { Sequence } from '../../lib/engine/sequence.ts';
import type { PlanItem, StepPlan } from '../../lib/engine/step-plan.ts';
import { chunkGranule } from '../../lib/engine/step-planner.ts';
import { makeScheduler, sequence } from './harness.ts';

const rowLayers = new Int32Array(1024);
const drawn = new Int32Array(1024).fill(5);

/** Plans a step, checks it against every limit, and completes it. Null when there was nothing to do. */
function step(scheduler: Scheduler, blocks: BlockManager, ms = 1): { sequence: Sequence; count: number }[] | null {
  const plan = scheduler.schedule();
  scheduler.checkIntegrity();
  if (plan === null) return null;
  checkPlan(plan, scheduler.limits);
  const items = plan.items.slice(0, plan.size).map((item) => ({ ...item }));
  scheduler.complete(plan, drawn, rowLayers, ms);
  scheduler.checkIntegrity();
  must(blocks.numFree >= 0, 'free blocks');
  return items;
}

/** Plain comparisons: this runs a hundred thousand times. */
function checkPlan(plan: StepPlan, limits: SchedulerLimits): void {
  const items = plan.items.slice(0, plan.size);
  const rows = items.reduce((sum, item) => sum + item.count, 0);
  const logitRows = items.reduce((sum, item) => sum + item.logitRows, 0);
  must(plan.rows === rows && plan.logitRows === logitRows, 'sums of the plan');
  must(rows > 0 && rows <= limits.maxRows, `${rows} rows`);
  must(logitRows <= limits.maxLogitRows, `${logitRows} logit rows`);
  must(plan.scoredRows <= limits.maxScoredRows, `${plan.scoredRows} scored rows`);
  must(items.length <= limits.maxSeqs, `${items.length} sequences`);
  must(new Set(items.map((item) => item.sequence)).size === items.length, 'a sequence is there twice');
  const places = new Set<number>();
  for (const item of items) {
    const { sequence: s, start, count } = item;
    const completes = start + count === s.length;
    must(start === s.numComputed, `start ${start}, computed ${s.numComputed}`);
    must(item.sample === (completes && s.maxTokens > 0), 'sample');
    must(item.survivors === (s.fullDepth ? 0 : completes ? count - 1 : count), `survivors from ${item.survivors}`);
    must(item.logitRows === wantedLogitRows(item), `logit rows ${item.logitRows}`);
    for (let place = item.logitStart; place < item.logitStart + item.logitRows; place++) {
      must(place < plan.scoredRows === (s.scoring === 'logits'), `logit row ${place}`);
      places.add(place);
    }
  }
  checkLogprobRows(plan, items);
  must(places.size === logitRows, 'two items share a logit row');
  must(Math.max(-1, ...places) === logitRows - 1, 'logit rows have a gap');
}

/** Every token of a scored prompt but the first, once, and every sampled one of those who ask. */
function checkLogprobRows(plan: StepPlan, items: readonly PlanItem[]): void {
  let rows = 0;
  for (const { sequence: s, start, count, logprobStart, logprobRows, sample } of items) {
    const first = Math.max(start, s.numScored) + 1;
    const prompt = s.scoring === 'logprobs' ? Math.max(0, Math.min(start + count + 1, s.promptLength) - first) : 0;
    must(logprobRows === prompt + (sample && s.logprobs ? 1 : 0), `${logprobRows} logprob rows`);
    must(logprobStart === rows, `logprob rows from ${logprobStart}`);
    rows += logprobRows;
  }
  must(plan.logprobRows === rows, 'sum of the logprob rows');
}

/** All rows of an unscored prompt, and the last row of a sequence that generates. */
function wantedLogitRows({ sequence: s, start, count, sample }: PlanItem): number {
  const end = start + count;
  const unscored = s.scoring === null ? 0 : Math.min(end, s.promptLength) - Math.max(start, s.numScored);
  return Math.max(unscored, sample ? 1 : 0);
}

function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(`plan: ${what}`);
}

const counts = (items: { count: number }[] | null) => items?.map((item) => item.count);

describe('Scheduler', () => {
  it('runs decodes first and fills the step with chunks in order of arrival', () => {
    const { scheduler, blocks } = makeScheduler(64);
    const [a, b, c] = [sequence(10, 5), sequence(100, 5), sequence(30, 5)];
    for (const s of [a, b, c]) scheduler.add(s);
    expect(step(scheduler, blocks)).toMatchObject([
      { sequence: a, count: 10 },
      { sequence: b, count: 54 },
    ]);
    // The shorter one may take up to half of what is left.
    expect(step(scheduler, blocks)).toMatchObject([
      { sequence: a, count: 1 },
      { sequence: c, count: 30 },
      { sequence: b, count: 33 },
    ]);
    expect(step(scheduler, blocks)).toMatchObject([
      { sequence: a, count: 1 },
      { sequence: c, count: 1 },
      { sequence: b, count: 13 },
    ]);
  });

  it('gives an unfinished chunk no survivor and a fullDepth one all of them', () => {
    const { scheduler } = makeScheduler(64, { maxRows: 32 });
    scheduler.add(sequence(40, 1));
    const plan = scheduler.schedule()!;
    expect(plan.items[0]).toMatchObject({ count: 32, survivors: 32, sample: false, logitRows: 0 });
    scheduler.complete(plan, drawn, rowLayers, 1);
    expect(scheduler.schedule()!.items[0]).toMatchObject({ start: 32, count: 8, survivors: 7, sample: true });
    const full = makeScheduler(64, { maxRows: 32 });
    full.scheduler.add(sequence(40, 1, { fullDepth: true }));
    expect(full.scheduler.schedule()!.items[0]).toMatchObject({ count: 32, survivors: 0, sample: false, logitRows: 0 });
  });

  it('refuses what can never run', () => {
    const { scheduler } = makeScheduler(4, { maxModelLen: 100 });
    expect(() => scheduler.add(sequence(90, 11))).toThrow(expect.objectContaining({ code: 'ERR_CONTEXT_LENGTH' }));
    expect(() => scheduler.add(sequence(60, 6))).toThrow(expect.objectContaining({ code: 'ERR_CACHE_TOO_SMALL' }));
    scheduler.add(sequence(60, 5));
    expect(scheduler.numWaiting).toBe(1);
  });

  it('cuts chunks to maxStepMs, as measured, while answers wait', () => {
    const { scheduler, blocks } = makeScheduler(512, { maxRows: 512, maxModelLen: 8192, maxStepMs: 10 });
    scheduler.add(sequence(10, 1000));
    step(scheduler, blocks);
    const long = sequence(4000, 1);
    scheduler.add(long);
    const chunks: number[] = [];
    let rows = 1;
    while (long.state !== 'finished') {
      // 0.1 ms a row: 100 rows fit.
      rows = counts(step(scheduler, blocks, rows * 0.1))!.at(-1)!;
      chunks.push(rows);
    }
    expect(chunks[0]! % chunkGranule).toBe(0);
    for (const chunk of chunks.slice(12, -1)) {
      expect(chunk).toBeGreaterThanOrEqual(64);
      expect(chunk).toBeLessThanOrEqual(112);
    }
  });

  it('gives prompts whole steps while no answer waits', () => {
    const { scheduler, blocks } = makeScheduler(512, { maxRows: 512, maxModelLen: 8192, maxStepMs: 0.001 });
    const [a, b] = [sequence(1100, 1), sequence(100, 1)];
    scheduler.add(a);
    scheduler.add(b);
    const steps = [1, 2, 3].map(() => counts(step(scheduler, blocks, 1000)));
    expect(steps).toEqual([[100, 412], [512], [176]]);
  });

  it('moves the oldest prompt on even when running answers take longer than a step should', () => {
    const { scheduler, blocks } = makeScheduler(64, { maxStepMs: 0.001 });
    for (let i = 0; i < 4; i++) scheduler.add(sequence(5 + i, 50));
    for (let i = 0; i < 8; i++) step(scheduler, blocks, 500);
    const long = sequence(100, 2);
    scheduler.add(long);
    let steps = 0;
    for (; long.numComputed < 100; steps++) {
      expect(counts(step(scheduler, blocks, 500))!.slice(0, 4)).toEqual([1, 1, 1, 1]);
    }
    expect(steps).toBeLessThanOrEqual(Math.ceil(100 / chunkGranule));
  });

  it('takes blocks from the youngest, which comes back first and loses no token', () => {
    const { scheduler, blocks } = makeScheduler(5);
    const [a, b] = [sequence(30, 34), sequence(14, 20)];
    scheduler.add(a);
    step(scheduler, blocks);
    scheduler.add(b);
    while (b.numPreemptions === 0) step(scheduler, blocks);
    const had = b.numOutput;
    expect(had).toBeGreaterThan(0);
    expect(b).toMatchObject({ state: 'waiting', numComputed: 0, slot: -1 });
    expect(a.state).toBe('running');
    const c = sequence(3, 2);
    scheduler.add(c);
    while (c.state !== 'finished') step(scheduler, blocks);
    expect([a.numOutput, b.numOutput, c.numOutput]).toEqual([34, 20, 2]);
    expect(scheduler.numPreemptions).toBeGreaterThan(0);
    expect(blocks.numFree).toBe(5);
  });

  it('keeps blocks and slots of an aborted sequence from others until the step has ended', () => {
    const { scheduler, blocks } = makeScheduler(4, { maxSeqs: 1 });
    const [a, b] = [sequence(40, 5), sequence(40, 5)];
    scheduler.add(a);
    scheduler.add(b);
    const plan = scheduler.schedule()!;
    scheduler.abort(a);
    expect(blocks.numFree).toBe(1);
    scheduler.checkIntegrity();
    scheduler.complete(plan, drawn, rowLayers, 1);
    expect(a).toMatchObject({ state: 'aborted', numOutput: 0 });
    expect(blocks.numFree).toBe(4);
    expect(step(scheduler, blocks)).toMatchObject([{ sequence: b }]);
    scheduler.abort(b);
    scheduler.abort(b);
    expect(scheduler.schedule()).toBeNull();
  });

  it('fails the sequences of a failed step only', () => {
    const { scheduler, blocks } = makeScheduler(8, { maxSeqs: 1 });
    const [a, b] = [sequence(20, 5), sequence(20, 5)];
    scheduler.add(a);
    scheduler.add(b);
    scheduler.fail(scheduler.schedule()!);
    expect([a.state, b.state]).toEqual(['failed', 'waiting']);
    scheduler.checkIntegrity();
    while (step(scheduler, blocks) !== null);
    expect(b.state).toBe('finished');
  });

  it('scores a text in pieces that its logit rows allow, among others', () => {
    const { scheduler, blocks } = makeScheduler(64, { maxScoredRows: 7 });
    const [scored, other] = [sequence(20, 0, { scoring: 'logits' }), sequence(20, 10)];
    scheduler.add(other);
    scheduler.add(scored);
    const pieces: number[] = [];
    while (scored.state !== 'finished') {
      for (const item of step(scheduler, blocks)!) if (item.sequence === scored) pieces.push(item.count);
    }
    expect(pieces).toEqual([7, 7, 6]);
    expect(scored.numOutput).toBe(0);
  });

  it('starves nobody: request k ends within the stated number of steps, in any cache, whatever steps cost', () => {
    const request = fc.record({
      length: fc.integer({ min: 1, max: 90 }),
      maxTokens: fc.integer({ min: 1, max: 40 }),
      fullDepth: fc.boolean(),
      scoring: fc.constantFrom(null, null, null, null, 'logits' as const, 'logprobs' as const),
      after: fc.nat(6),
    });
    const limits = fc.record({
      maxRows: fc.constantFrom(1, 2, 5, 16, 64),
      maxSeqs: fc.integer({ min: 1, max: 6 }),
      maxLogitRows: fc.constantFrom(1, 2, 8),
      maxStepMs: fc.constantFrom(0.001, 1, 250),
    });
    // Four answers that fit the cache when they begin, and not when they have grown: random ones may never preempt.
    const growing = { length: 20, maxTokens: 40, fullDepth: false, scoring: null, after: 0 };
    const roomy = { maxRows: 64, maxSeqs: 6, maxLogitRows: 8, maxStepMs: 250 };
    let preemptions = 0;
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 8 }),
        limits,
        fc.integer({ min: 9, max: 30 }),
        fc.array(fc.constantFrom(0.01, 1, 1000), { minLength: 1, maxLength: 5 }),
        (requests, partial, numBlocks, times) => {
          const scored = Math.min(partial.maxLogitRows, 4);
          const { scheduler, blocks } = makeScheduler(numBlocks, { ...partial, maxScoredRows: scored });
          let bound = 0;
          const live: { s: Sequence; bound: number }[] = [];
          let at = 0;
          let steps = 0;
          let pause = requests[0]!.after;
          for (;;) {
            for (; at < requests.length && pause-- <= 0; pause = requests[at]?.after ?? 0) {
              const { length, maxTokens, fullDepth, scoring } = requests[at++]!;
              const s = sequence(length, scoring === 'logits' ? 0 : maxTokens, { fullDepth, scoring, logprobs: true });
              scheduler.add(s);
              const logitRows = { logits: scored, logprobs: partial.maxLogitRows, none: chunkGranule };
              const piece = Math.min(chunkGranule, partial.maxRows, logitRows[scoring ?? 'none']);
              bound += Math.ceil(s.maxLength / piece) + s.maxTokens;
              live.push({ s, bound: steps + bound });
            }
            const items = step(scheduler, blocks, times[steps % times.length]);
            if (items === null && at === requests.length) break;
            steps++;
            for (const one of live) {
              must(one.s.state === 'finished' || steps <= one.bound, `still ${one.s.state} after ${steps} steps`);
            }
          }
          for (const { s } of live) expect(s).toMatchObject({ state: 'finished', numOutput: s.maxTokens });
          expect(blocks.numFree).toBe(numBlocks);
          preemptions += scheduler.numPreemptions;
        },
      ),
      { numRuns: 150, examples: [[Array(4).fill(growing), roomy, 9, [1]]] },
    );
    expect(preemptions).toBeGreaterThan(0);
  });
});
