// What is told on the diagnostics channels: the life of every answer in order, and steps that account for every row.

import { channel } from 'node:diagnostics_channel';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { channelNames } from '../../lib/engine/channels.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { until } from './harness.ts';
import { listen, WatchedLoop } from './watched-loop.ts';

let heard = listen();
heard.close();
afterEach(() => heard.close());

describe('swiftkv:request', () => {
  it('tells the life of an answer', async () => {
    heard = listen();
    const world = new WatchedLoop();
    world.submit(40, 3);
    await world.idle();
    world.submit(40, 1);
    await world.idle();
    expect(heard.events(1)).toEqual(['queued', 'started', 'first token', 'finished']);
    expect(heard.events(2)).toEqual(['queued', 'started', 'first token', 'finished']);
    const [queued, started, first, finished] = heard.requests;
    expect(queued).toMatchObject({
      engine: world.loop.observer.engine,
      index: 0,
      promptTokens: 40,
      completionTokens: 0,
    });
    expect(started).toMatchObject({ cachedTokens: 0 });
    expect(first).toMatchObject({ completionTokens: 1 });
    expect(finished).toMatchObject({ completionTokens: 3 });
    expect(heard.requests.at(-1)).toMatchObject({ request: 2, cachedTokens: 32, completionTokens: 1 });
    const times = heard.requests.map((m) => m.at);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });

  it('tells the answers to one request apart', async () => {
    heard = listen();
    const world = new WatchedLoop();
    world.submit(20, 2, { n: 2 });
    world.submit(9, 1);
    await world.idle();
    for (const index of [0, 1])
      expect(heard.events(1, index)).toEqual(['queued', 'started', 'first token', 'finished']);
    expect(heard.events(2, 0)).toHaveLength(4);
    expect(
      heard.requests.filter((m) => m.event === 'started').map((m) => [m.request, m.index, m.cachedTokens]),
    ).toEqual([
      [2, 0, 0],
      [1, 0, 0],
      [1, 1, 19],
    ]);
  });

  it('tells of pauses and preemptions once each', async () => {
    heard = listen();
    const world = new WatchedLoop({ numBlocks: 8 });
    const jobs = [0, 1, 2].flatMap((salt) => world.submit(20, 60, { salt, root: 0 }));
    await until(() => jobs[0]!.sequence.numOutput > 3);
    for (let i = 0; i < 2; i++) world.loop.pause(jobs[0]!);
    await until(() => jobs[1]!.sequence.ended);
    for (let i = 0; i < 2; i++) world.loop.resume(jobs[0]!);
    await world.idle();
    world.loop.pause(jobs[0]!);
    const of = (event: string) => heard.requests.filter((m) => m.event === event);
    expect(of('paused')).toHaveLength(1);
    expect(of('resumed')).toHaveLength(1);
    expect(of('preempted').length).toBe(world.stats().preemptions);
    expect(of('preempted').length).toBeGreaterThan(0);
    for (const { sequence, id } of jobs) {
      expect(heard.events(id).filter((event) => event === 'preempted')).toHaveLength(sequence.numPreemptions);
    }
    expect(of('first token')).toHaveLength(3);
    expect(of('finished')).toHaveLength(3);
  });

  it('says why an answer failed or was given up', async () => {
    heard = listen();
    const world = new WatchedLoop({ nanToken: 96, memorylessSeed: 5n });
    world.loop.submit(world.job([1, 96], 5));
    const [aborted] = world.submit(9, 50);
    world.submit(300, 50, { salt: 3 });
    await until(() => aborted!.sequence.numOutput > 1);
    world.loop.abort(aborted!);
    await world.loop.close(new SwiftKVError('ERR_DISPOSED', 'closed'));
    const ends = heard.requests.filter((m) => m.code !== undefined).map((m) => [m.request, m.event, m.code]);
    expect(ends).toEqual([
      [1, 'failed', 'ERR_NUMERIC'],
      [2, 'aborted', 'ERR_ABORTED'],
      [3, 'aborted', 'ERR_DISPOSED'],
    ]);
  });
});

describe('swiftkv:step', () => {
  it('accounts for every row of every answer, in steps that do not overlap', async () => {
    heard = listen();
    const world = new WatchedLoop({ maxRows: 32 });
    const jobs = [world.submit(50, 4), world.submit(9, 6, { salt: 1 })].flat();
    await world.idle();
    const { steps } = heard;
    expect(steps.map((m) => m.step)).toEqual(steps.map((_, i) => i + 1));
    for (const { id, sequence } of jobs) {
      const items = steps.flatMap((m) => m.items).filter((item) => item.request === id);
      let next = 0;
      for (const { start, count } of items) {
        expect(start).toBe(next);
        next += count;
      }
      expect(next).toBe(sequence.length - 1);
      expect(items.filter((item) => item.sample)).toHaveLength(sequence.numOutput);
    }
    const sum = (of: 'rows' | 'survivors' | 'logitRows') => steps.reduce((total, m) => total + m[of], 0);
    expect(sum('rows')).toBe(50 + 9 + 3 + 5);
    expect(sum('survivors')).toBe(4 + 6);
    expect(sum('logitRows')).toBe(4 + 6);
    let end = 0;
    for (const m of steps) {
      expect(m.rows).toBe(m.items.reduce((rows, item) => rows + item.count, 0));
      for (const ms of [m.scheduleMs, m.fillMs, m.submitMs, m.notifyMs, m.applyMs])
        expect(ms).toBeGreaterThanOrEqual(0);
      expect(m.startedAt - m.fillMs - m.scheduleMs).toBeGreaterThanOrEqual(end);
      expect(m.startedAt + m.submitMs + m.notifyMs).toBeLessThanOrEqual(m.endedAt);
      end = m.endedAt + m.applyMs;
    }
    expect(steps[0]).toMatchObject({ running: 2, waiting: 0, preemptions: 0, copies: 0 });
    expect(steps[0]!.freeBlocks).toBe(64 - 4 - 1);
  });

  it('tells of copies', async () => {
    heard = listen();
    const world = new WatchedLoop();
    world.submit(20, 3, { n: 3 });
    await world.idle();
    expect(heard.steps.reduce((sum, m) => sum + m.copies, 0)).toBe(2);
  });

  it('says that a step failed or was stopped', async () => {
    heard = listen();
    const world = new WatchedLoop({ manual: true });
    world.submit(9, 5);
    world.runner.nextError = new SwiftKVError('ERR_OUT_OF_MEMORY', 'on purpose');
    await until(() => world.runner.busy);
    world.runner.release();
    await world.idle();
    const [job] = world.submit(9, 5);
    await until(() => world.runner.busy);
    world.loop.abort(job!);
    await world.idle();
    await until(() => heard.steps.length === 2);
    expect(heard.steps.map((m) => m.code)).toEqual(['ERR_OUT_OF_MEMORY', 'ERR_ABORTED']);
    expect(world.stats()).toMatchObject({ steps: 2, stepMs: { count: 0 }, rowLayersRun: 0 });
  });
});

it('makes no message while nobody listens', async () => {
  const publish = Object.values(channelNames).map((name) => vi.spyOn(channel(name), 'publish'));
  const world = new WatchedLoop();
  world.submit(40, 3);
  await world.idle();
  for (const spy of publish) {
    expect(spy).not.toHaveBeenCalled();
    spy.mockRestore();
  }
});
