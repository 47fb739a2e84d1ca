// Who goes first: short prompts and long ones, priorities, paused readers, answers that share a prompt, a full queue.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BlockManager, blocksFor } from '../../lib/engine/block-manager.ts';
import { rootOf } from '../../lib/engine/prefix-cache.ts';
import type { Scheduler } from '../../lib/engine/scheduler.ts';
import { type Sequence, SequenceGroup } from '../../lib/engine/sequence.ts';
import { chunkGranule } from '../../lib/engine/step-planner.ts';
import { makeScheduler, sequence } from './harness.ts';

const rowLayers = new Int32Array(1024);
const drawn = new Int32Array(1024).fill(5);

/** A step of 0.1 ms a row: who had how many rows, and the copies. Null when nobody could run. */
function step(scheduler: Scheduler): { s: Sequence; count: number }[] | null {
  const plan = scheduler.schedule();
  scheduler.checkIntegrity();
  if (plan === null) return null;
  const items = plan.items.slice(0, plan.size).map(({ sequence: s, count }) => ({ s, count }));
  expect(new Set(items.map((item) => item.s)).size).toBe(items.length);
  expect(items.filter((item) => item.s.paused)).toEqual([]);
  scheduler.complete(plan, drawn, rowLayers, plan.rows * 0.1);
  scheduler.checkIntegrity();
  return items;
}

/** Steps until `done`; throws when it takes more than `most`. */
function stepsUntil(scheduler: Scheduler, done: () => boolean, most = 10_000): number {
  for (let steps = 0; ; steps++) {
    if (done()) return steps;
    if (steps === most) throw new Error(`not done after ${most} steps`);
    step(scheduler);
  }
}

const finished = (s: Sequence) => () => s.state === 'finished';

describe('long prompts and short ones', () => {
  const limits = { maxRows: 512, maxModelLen: 8192, maxStepMs: 10, maxSeqs: 16 };

  /** Steps that a prompt of 4,000 takes beside running answers, while a short one comes every `every` steps. */
  function race(every: number | null) {
    const { scheduler } = makeScheduler(2048, limits);
    scheduler.add(sequence(10, 2000));
    // Until the cost model knows that a step of 10 ms has 100 rows.
    const warm = sequence(3000, 1);
    scheduler.add(warm);
    stepsUntil(scheduler, finished(warm));
    const long = sequence(4000, 1);
    scheduler.add(long);
    const waits: number[] = [];
    const shorts: { s: Sequence; since: number }[] = [];
    let steps = 0;
    for (; long.state !== 'finished'; steps++) {
      if (every !== null && steps % every === 0) {
        shorts.push({ s: sequence(32, 1), since: steps });
        scheduler.add(shorts.at(-1)!.s);
      }
      step(scheduler);
      for (const { s, since } of shorts) if (s.state === 'finished') waits.push(steps + 1 - since);
      for (let i = shorts.length - 1; i >= 0; i--) if (shorts[i]!.s.state === 'finished') shorts.splice(i, 1);
    }
    return { steps, waits };
  }

  it('give a short prompt its answer at once, and the long one at least half of every step', () => {
    const alone = race(null);
    const beside = race(1);
    expect(alone.steps).toBeGreaterThan(30);
    expect(beside.waits.length).toBeGreaterThan(30);
    expect(Math.max(...beside.waits)).toBeLessThanOrEqual(2);
    expect(beside.steps).toBeLessThanOrEqual(2 * alone.steps + 2);
  });

  it('come in order of arrival where they are equally long', () => {
    const { scheduler } = makeScheduler(2048, limits);
    const prompts = [1, 2, 3].map(() => sequence(700, 1));
    scheduler.add(...prompts);
    for (const [i, s] of prompts.entries()) {
      stepsUntil(scheduler, finished(s));
      for (const later of prompts.slice(i + 1)) expect(later.numComputed).toBeLessThan(700);
    }
  });

  it('do not keep a long one out of the cache: what does not fit beside it waits', () => {
    const { scheduler } = makeScheduler(40, { ...limits, maxModelLen: 1024 });
    const running = sequence(300, 30);
    scheduler.add(running);
    step(scheduler);
    const long = sequence(500, 1);
    scheduler.add(long);
    const late: Sequence[] = [];
    const begun = new Map<Sequence, number>();
    for (let i = 0; long.state !== 'finished'; i++) {
      late.push(sequence(40, 20));
      scheduler.add(late.at(-1)!);
      for (const { s } of step(scheduler)!) if (!begun.has(s)) begun.set(s, i);
      expect(i).toBeLessThan(40);
    }
    expect(begun.size).toBeGreaterThan(2);
    for (const s of late) expect(begun.get(s) ?? 40).toBeGreaterThanOrEqual(begun.get(long)!);
    expect(long.numPreemptions).toBe(0);
  });
});

describe('priority', () => {
  it('decides who is first, and arrival among equals', () => {
    const { scheduler } = makeScheduler(64, { maxSeqs: 1 });
    const [a, b, c, d] = [0, 0, 5, -1].map((priority, i) => sequence(10 + i, 1, { priority })) as Sequence[];
    scheduler.add(d!);
    for (const s of [a!, b!, c!]) scheduler.add(s);
    const order = [0, 1, 2, 3].map(() => step(scheduler)![0]!.s);
    expect(order).toEqual([c, a, b, d]);
  });

  it('takes the room of those below it, who lose nothing but time', () => {
    const { scheduler, blocks } = makeScheduler(8);
    const [low, lower] = [sequence(40, 10), sequence(30, 10, { priority: -1 })];
    scheduler.add(low);
    scheduler.add(lower);
    step(scheduler);
    const high = sequence(80, 10, { priority: 1 });
    scheduler.add(high);
    expect(step(scheduler)!.map((item) => item.s)).toContain(high);
    expect(lower.numPreemptions).toBe(1);
    stepsUntil(scheduler, finished(high), 20);
    stepsUntil(scheduler, finished(lower), 60);
    expect([high, low, lower].map((s) => s.numOutput)).toEqual([10, 10, 10]);
    expect(blocks.numFree).toBe(8);
  });

  it('takes a slot, if there is no other', () => {
    const { scheduler } = makeScheduler(64, { maxSeqs: 2 });
    const [a, b] = [sequence(10, 50), sequence(11, 50)];
    scheduler.add(a);
    scheduler.add(b);
    step(scheduler);
    const high = sequence(12, 2, { priority: 1 });
    scheduler.add(high);
    stepsUntil(scheduler, finished(high), 2);
    expect([a.numPreemptions, b.numPreemptions]).toEqual([0, 1]);
  });

  it('does not throw out others for one that would not fit all the same', () => {
    const { scheduler } = makeScheduler(8);
    const [first, last] = [sequence(60, 20, { priority: 2 }), sequence(16, 20)];
    scheduler.add(first);
    scheduler.add(last);
    step(scheduler);
    const middle = sequence(80, 5, { priority: 1 });
    scheduler.add(middle);
    for (let i = 0; i < 10; i++) step(scheduler);
    expect([first, last].map((s) => s.numPreemptions)).toEqual([0, 0]);
    expect(middle.state).toBe('waiting');
    stepsUntil(scheduler, finished(middle), 60);
  });
});

describe('a paused sequence', () => {
  it('gets nothing, costs the others nothing, and goes on where it was', () => {
    const { scheduler } = makeScheduler(64);
    const [a, b] = [sequence(10, 20), sequence(12, 20)];
    scheduler.add(a);
    scheduler.add(b);
    step(scheduler);
    scheduler.pause(a);
    expect(scheduler.numPaused).toBe(1);
    stepsUntil(scheduler, finished(b), 19);
    expect(a).toMatchObject({ state: 'running', numOutput: 1 });
    expect(step(scheduler)).toBeNull();
    scheduler.resume(a);
    stepsUntil(scheduler, finished(a), 19);
    expect(a).toMatchObject({ numOutput: 20, numPreemptions: 0 });
  });

  it('is the first to lose its blocks, and its slot, whatever its rank', () => {
    const { scheduler, blocks } = makeScheduler(6, { maxSeqs: 2 });
    const a = sequence(60, 20, { priority: 9 });
    scheduler.add(a);
    step(scheduler);
    scheduler.pause(a);
    const [b, c] = [sequence(30, 30), sequence(10, 30)];
    scheduler.add(b);
    scheduler.add(c);
    stepsUntil(scheduler, () => b.state === 'finished' && c.state === 'finished', 100);
    expect([a.numPreemptions, a.state, b.numPreemptions]).toEqual([1, 'waiting', 0]);
    expect(step(scheduler)).toBeNull();
    scheduler.resume(a);
    stepsUntil(scheduler, finished(a), 40);
    expect(a.numOutput).toBe(20);
    expect(blocks.numFree).toBe(6);
  });

  it('can be ended while it is paused, running or waiting', () => {
    const { scheduler, blocks } = makeScheduler(8, { maxSeqs: 1 });
    const [a, b] = [sequence(10, 20), sequence(11, 20)];
    scheduler.add(a);
    scheduler.add(b);
    step(scheduler);
    for (const s of [a, b]) scheduler.pause(s);
    expect(step(scheduler)).toBeNull();
    scheduler.abort(a);
    scheduler.finish(b);
    expect([scheduler.numRunning, scheduler.numWaiting, blocks.numFree]).toEqual([0, 0, 8]);
  });
});

describe('answers to one prompt', () => {
  function answers(n: number, length: number, maxTokens: number, root = 0): Sequence[] {
    const group = new SequenceGroup();
    return Array.from({ length: n }, () => sequence(length, maxTokens, { group, root }));
  }

  it('compute it once: the others share its full blocks and copy the last', () => {
    const { scheduler, blocks } = makeScheduler(64, { maxRows: 32 });
    const [a, b, c] = answers(3, 41, 5) as [Sequence, Sequence, Sequence];
    scheduler.add(a, b, c);
    const rows = (s: Sequence, items: ReturnType<typeof step>) => items!.find((item) => item.s === s)?.count ?? 0;
    expect(step(scheduler)).toEqual([{ s: a, count: 32 }]);
    expect(step(scheduler)).toEqual([{ s: a, count: 9 }]);
    const used = 64 - blocks.numFree;
    const plan = scheduler.schedule()!;
    // Tokens 32 to 39 lie in the third block.
    expect(plan.numCopies).toBe(2);
    for (const [i, s] of [b, c].entries()) {
      expect(plan.copySources[i]).toBe(a.table.blocks[2]);
      expect(plan.copyDestinations[i]).toBe(s.table.blocks[2]);
      expect(s.table.blocks.subarray(0, 2)).toEqual(a.table.blocks.subarray(0, 2));
      expect(s.cachedTokens).toBe(40);
    }
    expect(64 - blocks.numFree).toBe(used + 2);
    scheduler.complete(plan, drawn, rowLayers, 1);
    expect([a, b, c].map((s) => s.numOutput)).toEqual([2, 1, 1]);
    const items = step(scheduler);
    expect([a, b, c].map((s) => rows(s, items))).toEqual([1, 1, 1]);
    stepsUntil(scheduler, () => [a, b, c].every((s) => s.state === 'finished'), 10);
    expect(blocks.numFree).toBe(64);
  });

  it('copy nothing where the last token of the prompt is the first of a block', () => {
    const { scheduler } = makeScheduler(64);
    const [a, b] = answers(2, 33, 5) as [Sequence, Sequence];
    scheduler.add(a, b);
    step(scheduler);
    const plan = scheduler.schedule()!;
    expect(plan.numCopies).toBe(0);
    expect(b).toMatchObject({ cachedTokens: 32, state: 'running' });
  });

  it('find the prompt in the prefix cache when the first has ended before they could start', () => {
    const { scheduler, blocks } = makeScheduler(64, { maxSeqs: 1 });
    const all = answers(3, 50, 1, rootOf(''));
    scheduler.add(...all);
    stepsUntil(scheduler, () => all.every((s) => s.state === 'finished'), 3);
    expect(all.map((s) => s.cachedTokens)).toEqual([0, 48, 48]);
    expect(blocks.numFree).toBe(64);
  });

  it('go on when the one that computes the prompt is aborted, preempted or paused', () => {
    for (const stop of ['abort', 'pause'] as const) {
      const { scheduler, blocks } = makeScheduler(64, { maxRows: 16 });
      const [a, b, c] = answers(3, 60, 4) as [Sequence, Sequence, Sequence];
      scheduler.add(a, b, c);
      step(scheduler);
      expect([b.state, c.state]).toEqual(['waiting', 'waiting']);
      scheduler[stop](a);
      stepsUntil(scheduler, () => b.state === 'finished' && c.state === 'finished', 20);
      expect(c.cachedTokens).toBe(59);
      scheduler.abort(a);
      expect(blocks.numFree).toBe(64);
    }
  });

  it('start again when the step that was to copy their block failed, even if they had no row in it', () => {
    const { scheduler, blocks } = makeScheduler(64, { maxLogitRows: 1 });
    scheduler.add(sequence(10, 20));
    step(scheduler);
    const group = new SequenceGroup();
    const [a, b] = [0, 1].map(() => sequence(41, 3, { group, priority: 1 })) as [Sequence, Sequence];
    scheduler.add(a, b);
    stepsUntil(scheduler, () => a.numOutput > 0, 3);
    const plan = scheduler.schedule()!;
    expect([plan.numCopies, plan.size, plan.items[0]!.sequence]).toEqual([1, 1, a]);
    expect(b.state).toBe('running');
    scheduler.fail(plan);
    scheduler.checkIntegrity();
    expect([a.state, b.state, b.numComputed]).toEqual(['failed', 'waiting', 0]);
    stepsUntil(scheduler, finished(b), 10);
    expect(b.rowLayersRun + b.rowLayersSkipped).toBeGreaterThan(0);
    expect(blocks.numFree).toBe(63);
  });
});

describe('a full queue', () => {
  it('refuses a request that would wait behind maxWaiting others, and counts its answers once', () => {
    const { scheduler } = makeScheduler(64, { maxSeqs: 2, maxWaiting: 3 });
    const full = expect.objectContaining({ code: 'ERR_QUEUE_FULL', message: expect.stringMatching('3.*maxQueued') });
    // Two could start at once.
    const group = new SequenceGroup();
    scheduler.add(...[1, 2, 3].map(() => sequence(10, 5, { group })));
    for (let i = 0; i < 4; i++) scheduler.add(sequence(20 + i, 5));
    expect(() => scheduler.add(sequence(9, 5))).toThrow(full);
    expect(scheduler.numWaiting).toBe(7);
    step(scheduler);
    expect(() => scheduler.add(sequence(9, 5))).toThrow(full);
    while (scheduler.numWaiting > 2) step(scheduler);
    scheduler.add(sequence(9, 5));
  });

  it('takes all answers of a request or none', () => {
    const { scheduler } = makeScheduler(4);
    expect(() => scheduler.add(sequence(10, 5), sequence(60, 10))).toThrow(
      expect.objectContaining({ code: 'ERR_CACHE_TOO_SMALL' }),
    );
    expect(scheduler.numWaiting).toBe(0);
  });
});

describe('everything together', () => {
  const request = fc.record({
    length: fc.integer({ min: 1, max: 70 }),
    maxTokens: fc.integer({ min: 1, max: 30 }),
    n: fc.constantFrom(1, 1, 1, 2, 3),
    priority: fc.constantFrom(0, 0, 0, 1, -1),
    scoring: fc.constantFrom(null, null, null, 'logprobs' as const),
    cached: fc.boolean(),
    after: fc.nat(5),
    pausedAt: fc.option(fc.nat(20)),
  });
  const limits = fc.record({
    maxRows: fc.constantFrom(1, 2, 7, 16, 64),
    maxSeqs: fc.integer({ min: 1, max: 6 }),
    maxLogitRows: fc.constantFrom(1, 2, 8),
    maxStepMs: fc.constantFrom(0.001, 1, 250),
  });

  /** Steps that a sequence may keep everybody behind it waiting. */
  const stepsOf = (s: Sequence, { maxRows, maxLogitRows }: { maxRows: number; maxLogitRows: number }) =>
    Math.ceil(s.maxLength / Math.min(chunkGranule, maxRows, s.scoring === null ? chunkGranule : maxLogitRows)) +
    s.maxTokens;

  it('starves nobody: each ends within the steps of itself and those before it in order, pauses not counted', () => {
    const seen = { preemptions: 0, forks: 0, hits: 0, pauses: 0 };
    fc.assert(
      fc.property(
        fc.array(request, { minLength: 1, maxLength: 8 }),
        limits,
        fc.integer({ min: 7, max: 24 }),
        fc.array(fc.constantFrom(0.01, 1, 1000), { minLength: 1, maxLength: 5 }),
        (requests, partial, numBlocks, times) => {
          const { scheduler, blocks } = makeScheduler(numBlocks, partial);
          const live: { s: Sequence; counted: number; pausedAt: number | null }[] = [];
          const ended: { s: Sequence; pausedAt: number | null }[] = [];
          let next = 0;
          for (let at = 0; ; at++) {
            while (next < requests.length && (requests[next]!.after <= at || live.length === 0)) {
              const { n, length, maxTokens, priority, scoring, cached, pausedAt } = requests[next++]!;
              const group = n > 1 ? new SequenceGroup() : null;
              const root = cached ? rootOf('') : 0;
              const all = Array.from({ length: n }, (_, i) =>
                sequence(length, maxTokens, { priority, group, root, scoring: i === 0 ? scoring : null }),
              );
              scheduler.add(...all);
              live.push(...all.map((s) => ({ s, counted: 0, pausedAt: pausedAt === null ? null : at + pausedAt })));
            }
            for (const { s, pausedAt } of live) {
              if (pausedAt === at) scheduler.pause(s);
              if (pausedAt === at) seen.pauses++;
              if (pausedAt !== null && pausedAt + 10 === at) scheduler.resume(s);
            }
            runOne(scheduler, blocks, times[at % times.length]!, seen);
            // While somebody before it is paused, it may have to wait for their return: those steps are not counted.
            for (const one of live) {
              const before = live.filter(({ s }) => comesBefore(s, one.s) || s === one.s).map(({ s }) => s);
              if (before.some((s) => s.paused)) continue;
              one.counted++;
            }
            for (let i = live.length - 1; i >= 0; i--) {
              const { s, counted } = live[i]!;
              if (s.state === 'finished') ended.push(...live.splice(i, 1));
              else {
                const bound = [...ended, ...live]
                  .filter((other) => comesBefore(other.s, s) || other.s === s)
                  // One that was paused may have been thrown out and begun again; the others never are before their turn.
                  .map(({ s: other, pausedAt }) => ({ other, times: pausedAt === null ? 1 : 1 + other.numPreemptions }))
                  .reduce((sum, { other, times }) => sum + times * stepsOf(other, partial), 0);
                if (counted > bound) throw new Error(`${s.state} after ${counted} steps of ${bound}`);
              }
            }
            if (live.length === 0 && next === requests.length) break;
            if (at > 5000) throw new Error('no end');
          }
          for (const { s } of ended)
            if (s.numOutput !== s.maxTokens) throw new Error(`${s.numOutput} of ${s.maxTokens}`);
          expect(blocks.numFree).toBe(numBlocks);
          seen.preemptions += scheduler.numPreemptions;
          seen.hits += blocks.prefixStats.hitTokens;
        },
      ),
      { numRuns: 200 },
    );
    for (const [what, count] of Object.entries(seen)) expect([what, count > 0]).toEqual([what, true]);
  }, 60_000);

  function comesBefore(a: Sequence, b: Sequence): boolean {
    return a.priority > b.priority || (a.priority === b.priority && a.arrival < b.arrival);
  }

  function runOne(scheduler: Scheduler, blocks: BlockManager, ms: number, seen: { forks: number }): void {
    const plan = scheduler.schedule();
    scheduler.checkIntegrity();
    if (plan === null) return;
    seen.forks += plan.numCopies;
    let held = 0;
    for (const { sequence: s } of plan.items.slice(0, plan.size)) held += blocksFor(s.numComputed);
    if (blocks.numFree < 0 || held < 0) throw new Error('free blocks');
    scheduler.complete(plan, drawn, rowLayers, ms);
    scheduler.checkIntegrity();
  }
});
