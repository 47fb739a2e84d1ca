// What the engine counts: exactly what happened, once each, and nothing that goes down.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { EventLoopLagMonitor } from '../../lib/engine/event-loop-lag.ts';
import { DurationHistogram } from '../../lib/engine/histogram.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { Engine } from '../../lib/index.ts';
import { fakeEngine, prompt, turn, until } from './harness.ts';
import { WatchedLoop } from './watched-loop.ts';

describe('stats over a fake model', () => {
  it('counts tokens, row-layers, prefix hits, blocks and steps', async () => {
    const world = new WatchedLoop({ stepMs: () => 3 });
    world.submit(40, 5);
    await world.idle();
    world.submit(40, 3);
    await world.idle();
    // L = 6, n = 2. 40 rows, then 8 (32 were cached); one row survives, and all that are fed back: 4 and 2.
    const rows = 40 + 4 + (8 + 2);
    const survivors = 1 + 4 + (1 + 2);
    expect(world.stats()).toMatchObject({
      running: 0,
      waiting: 0,
      paused: 0,
      // 44 tokens of the first left two full blocks, and those of the second are the same.
      cache: { blocks: 64, used: 0, cached: 2, free: 62, queriedTokens: 80, hitTokens: 32, hitRate: 0.4, evictions: 0 },
      preemptions: 0,
      rowLayersRun: rows * 2 + survivors * 4,
      rowLayersSkipped: (rows - survivors) * 4,
      tokens: { prompt: 80, cached: 32, completion: 8 },
      requests: { queued: 2, finished: 2, aborted: 0, failed: 0, rejected: 0 },
      steps: 8,
      stepMs: { count: 8, sum: 24 },
      javascriptMs: { count: 8 },
    });
    const { stepMs, javascriptMs } = world.stats();
    expect(stepMs.counts[stepMs.bounds.indexOf(5)]).toBe(8);
    expect(javascriptMs.counts.reduce((sum, n) => sum + n)).toBe(8);
    expect(javascriptMs.sum).toBeGreaterThan(0);
  });

  it('says who runs, waits and is paused, and counts the prompts of those that started only', async () => {
    const world = new WatchedLoop({ manual: true, maxSeqs: 2 });
    const jobs = [10, 11, 12].flatMap((length) => world.submit(length, 5, { salt: length }));
    await until(() => world.runner.busy);
    world.loop.pause(jobs[1]!);
    world.loop.pause(jobs[1]!);
    expect(world.stats()).toMatchObject({ running: 2, waiting: 1, paused: 1, steps: 1, stepMs: { count: 0 } });
    expect(world.stats()).toMatchObject({ tokens: { prompt: 21, completion: 0 }, cache: { used: 2, free: 62 } });
    for (const job of jobs) world.loop.abort(job);
    await until(() => !world.runner.busy);
    expect(world.stats()).toMatchObject({ running: 0, waiting: 0, paused: 0, requests: { queued: 3, aborted: 3 } });
  });

  it('counts a request of several answers several times, its prompt as cached for all but one', async () => {
    const world = new WatchedLoop();
    world.submit(20, 4, { n: 3 });
    await world.idle();
    expect(world.stats()).toMatchObject({
      tokens: { prompt: 60, cached: 38, completion: 12 },
      requests: { queued: 3, finished: 3 },
    });
  });

  it('counts every way to end once', async () => {
    const nan = 96;
    const world = new WatchedLoop({ nanToken: nan, numBlocks: 8, maxModelLen: 100 });
    world.loop.submit(world.job([1, 2, nan], 5));
    expect(() => world.submit(200, 5)).toThrow(SwiftKVError);
    expect(() => world.submit(50, 60, { n: 2 })).toThrow(SwiftKVError);
    const [stopped] = world.submit(10, 50, { salt: 1 });
    await until(() => stopped!.sequence.numOutput === 3);
    // As for a stop string.
    world.loop.finish(stopped!);
    world.loop.abort(stopped!);
    await world.idle();
    expect(world.stats().requests).toEqual({ queued: 2, finished: 1, aborted: 0, failed: 1, rejected: 3 });
    expect(world.stats().tokens.completion).toBe(stopped!.sequence.numOutput);

    world.submit(12, 5, { salt: 2 });
    world.submit(13, 5, { salt: 3 });
    world.runner.nextError = new SwiftKVError('ERR_OUT_OF_MEMORY', 'on purpose');
    await world.idle();
    expect(world.stats().requests).toMatchObject({ queued: 4, finished: 1, failed: 3 });

    world.submit(14, 5, { salt: 4 });
    await world.loop.close(new SwiftKVError('ERR_DISPOSED', 'closed'));
    expect(() => world.submit(14, 5)).toThrow('closed');
    expect(world.stats().requests).toEqual({ queued: 5, finished: 1, aborted: 1, failed: 3, rejected: 4 });
    expect(world.errors.map((error) => error.code).sort()).toEqual([
      'ERR_DISPOSED',
      'ERR_NUMERIC',
      'ERR_OUT_OF_MEMORY',
      'ERR_OUT_OF_MEMORY',
    ]);
  });

  it('counts tokens of preempted requests once, and the rows that were computed again', async () => {
    const world = new WatchedLoop({ numBlocks: 8 });
    for (let salt = 0; salt < 4; salt++) world.submit(20, 50, { salt, root: 0 });
    await world.idle();
    const { preemptions, tokens, requests, rowLayersRun } = world.stats();
    expect(preemptions).toBeGreaterThan(0);
    expect(tokens).toEqual({ prompt: 80, cached: 0, completion: 200 });
    expect(requests.finished).toBe(4);
    expect(rowLayersRun).toBeGreaterThan(4 * (69 * 2 + 50 * 4));
  });
});

describe('engine.stats', () => {
  it('adds up to what the requests were told, on the real model', async () => {
    const folder = fileURLToPath(new URL('../../models/swiftkv-50', import.meta.url));
    await using engine = await Engine.load(folder, { threads: 1, maxBatchRows: 128 });
    expect(engine.stats()).toMatchObject({ steps: 0, requests: { queued: 0 }, rowLayersRun: 0 });
    const requests = [10, 200, 90, 33].map((length, i) => ({ tokenIds: prompt(length, i, 500), maxTokens: 4 + i }));
    const results = await Promise.all(requests.map((request) => engine.generate(request).result()));
    const sum = (of: (usage: (typeof results)[0]['usage']) => number) =>
      results.reduce((total, { usage }) => total + of(usage), 0);
    const stats = engine.stats();
    expect(stats).toMatchObject({
      running: 0,
      waiting: 0,
      rowLayersRun: sum((usage) => usage.rowLayersRun),
      rowLayersSkipped: sum((usage) => usage.rowLayersSkipped),
      tokens: { prompt: 333, completion: sum((usage) => usage.completionTokens) },
      requests: { queued: 4, finished: 4, aborted: 0, failed: 0, rejected: 0 },
      stepMs: { count: stats.steps },
      memory: engine.memory(),
    });
    expect(stats.cache.used + stats.cache.cached + stats.cache.free).toBe(stats.cache.blocks);
    expect(stats.cache.used).toBe(0);
    expect(JSON.parse(JSON.stringify(stats))).toEqual(stats);
  });

  it('can still be read after dispose', async () => {
    const { engine } = fakeEngine();
    await engine.generate({ tokenIds: prompt(5), maxTokens: 2 }).result();
    await engine.dispose();
    expect(engine.stats()).toMatchObject({ requests: { finished: 1 }, eventLoopLag: null });
  });
});

describe('a histogram of durations', () => {
  it('counts a bound in the bucket below it, and what is beyond the last in one of its own', () => {
    const histogram = new DurationHistogram([1, 2, 5]);
    for (const ms of [0, 1, 1.001, 2, 5, 5.001, 1e9]) histogram.add(ms);
    expect(histogram.read()).toEqual({ bounds: [1, 2, 5], counts: [2, 2, 1, 2], sum: 14.002 + 1e9, count: 7 });
  });

  it('hands out copies', () => {
    const histogram = new DurationHistogram([1]);
    histogram.read().counts[0] = 7;
    expect(histogram.read().counts).toEqual([0, 0]);
  });
});

describe('the lag of the event loop', () => {
  it('shows what held the loop up, and nothing else keeps the process alive', async () => {
    const before = process.getActiveResourcesInfo();
    const monitor = new EventLoopLagMonitor();
    expect(monitor.read()).toBeNull();
    expect(process.getActiveResourcesInfo()).toEqual(before);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const end = performance.now() + 80;
    while (performance.now() < end);
    await new Promise((resolve) => setTimeout(resolve, 30));
    const lag = monitor.read()!;
    // A look was due at most 10 ms after the hold-up began.
    expect(lag.max).toBeGreaterThan(60);
    expect(lag.p50).toBeLessThanOrEqual(lag.p90);
    expect(lag.p99).toBeLessThanOrEqual(lag.max);
    monitor.stop();
    await turn();
    expect(monitor.read()!.max).toBe(lag.max);
  });
});
