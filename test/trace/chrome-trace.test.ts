// A trace file is read back: valid at any moment, slices that nest, and phases that cover each answer from queued to its end.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { RequestEvent } from '../../lib/engine/channels.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { traceTo } from '../../lib/trace/chrome-trace.ts';
import { type TraceEvent, TraceEventFile } from '../../lib/trace/event-file.ts';
import { RequestTrack } from '../../lib/trace/request-track.ts';
import { until } from '../engine/harness.ts';
import { WatchedLoop } from '../engine/watched-loop.ts';

const folder = mkdtempSync(join(tmpdir(), 'swiftkv-trace-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Events in the file's order; a beginning and its end become one slice. */
function read(path: string): TraceEvent[] {
  const events: TraceEvent[] = JSON.parse(readFileSync(path, 'utf8')).traceEvents;
  for (const end of events.filter((e) => e.ph === 'E')) {
    const same = (e: TraceEvent) => e.pid === end.pid && e.tid === end.tid && e.name === end.name;
    const begin = events.find((e) => e.ph === 'B' && same(e));
    Object.assign(begin!, { ph: 'X', dur: end.ts - begin!.ts, args: end.args });
  }
  return events.filter((e) => e.ph !== 'E');
}

const nanoseconds = (us: number) => Math.round(us * 1000);
const from = (e: TraceEvent) => nanoseconds(e.ts);
const to = (e: TraceEvent) => nanoseconds(e.ts) + nanoseconds(e.dur!);

/** Slices of a track, the outer ones first. Throws where two overlap and neither holds the other. */
function nested(events: TraceEvent[], pid: number, tid: number): TraceEvent[] {
  const slices = events.filter((e) => e.ph === 'X' && e.pid === pid && e.tid === tid);
  slices.sort((a, b) => from(a) - from(b) || to(b) - to(a));
  const open: TraceEvent[] = [];
  for (const slice of slices) {
    while (open.length > 0 && to(open.at(-1)!) <= from(slice)) open.pop();
    if (open.length > 0) expect(to(slice)).toBeLessThanOrEqual(to(open.at(-1)!));
    open.push(slice);
  }
  return slices;
}

function trackNames(events: TraceEvent[], pid: number): Map<string, number> {
  const names = events.filter((e) => e.name === 'thread_name' && e.pid === pid);
  return new Map(names.map((e) => [String(e.args['name']), e.tid]));
}

function checkFields(events: TraceEvent[]): void {
  for (const e of events) {
    expect(typeof e.name).toBe('string');
    expect(['X', 'C', 'M']).toContain(e.ph);
    for (const n of [e.pid, e.tid]) expect(Number.isInteger(n)).toBe(true);
    expect(Number.isFinite(e.ts)).toBe(true);
    if (e.ph === 'X') expect(e.dur).toBeGreaterThanOrEqual(0);
  }
}

/** The phases of an answer; they begin where it does, end where it does, and leave no gap. */
function phasesOf(events: TraceEvent[], pid: number, tid: number): string[] {
  const [whole, ...phases] = nested(events, pid, tid);
  expect(whole!.name).toMatch(/^request /);
  let at = from(whole!);
  for (const phase of phases) {
    expect(from(phase)).toBe(at);
    at = to(phase);
  }
  expect(at).toBe(to(whole!));
  return phases.map((phase) => phase.name);
}

describe('a trace', () => {
  it('has steps, the work of JavaScript, and the phases of every answer', async () => {
    const path = join(folder, 'busy.json');
    const trace = await traceTo(path);
    const world = new WatchedLoop({ numBlocks: 6, memorylessSeed: 5n, maxSeqs: 3 });
    const jobs = [0, 1, 2].flatMap((salt) => world.submit(20, 60, { salt, root: 0 }));
    world.loop.submit(world.job([3, 96], 4, {}, { ...greedy, seed: 5n }));
    world.submit(17, 3, { n: 2, salt: 9 });
    const [left] = world.submit(40, 9, { salt: 8 });
    await until(() => jobs[0]!.sequence.numOutput > 3);
    world.loop.pause(jobs[0]!);
    world.loop.abort(left!);
    await until(() => jobs[1]!.sequence.ended);
    world.loop.resume(jobs[0]!);
    await world.idle();
    const open = world.submit(9, 5, { salt: 7 });
    world.loop.pause(open[0]!);
    await trace.close();
    await trace.close();
    world.loop.abort(open[0]!);

    const events = read(path);
    checkFields(events);
    const pid = world.loop.observer.engine;
    const tracks = trackNames(events, pid);
    expect([...tracks.keys()].sort()).toEqual(
      ['JavaScript', 'steps', ...['1', '2', '3', '4', '5', '5.1', '6', '7'].map((key) => `request ${key}`)].sort(),
    );

    const steps = nested(events, pid, tracks.get('steps')!);
    expect(steps.map((e) => e.args['step'])).toEqual(steps.map((_, i) => i + 1));
    expect(steps.length).toBe(world.stats().steps);
    expect(new Set(steps.map((e) => e.name))).toEqual(new Set(['prefill', 'decode', 'mixed']));
    for (let i = 1; i < steps.length; i++) expect(from(steps[i]!)).toBeGreaterThanOrEqual(to(steps[i - 1]!));
    const javascript = nested(events, pid, tracks.get('JavaScript')!);
    for (let i = 1; i < javascript.length; i++)
      expect(from(javascript[i]!)).toBeGreaterThanOrEqual(to(javascript[i - 1]!));
    for (const name of ['schedule', 'fill', 'submit', 'notify', 'apply']) {
      expect(javascript.filter((e) => e.name === name)).toHaveLength(steps.length);
    }

    const phases = new Map(
      [...tracks]
        .filter(([name]) => name.startsWith('request'))
        .map(([name, tid]) => [name, phasesOf(events, pid, tid)]),
    );
    const preempted = jobs.filter((job) => job.sequence.numPreemptions > 0);
    expect(preempted.length).toBeGreaterThan(0);
    for (const { id, sequence } of preempted) {
      const names = phases.get(`request ${id}`)!;
      if (!names.includes('paused'))
        expect(names.filter((n) => n === 'preempted')).toHaveLength(sequence.numPreemptions);
      // Its last token may be the first after a preemption.
      expect(['decode', 'prefill']).toContain(names.at(-1));
    }
    expect(phases.get('request 1')).toContain('paused');
    expect(phases.get('request 4')).toEqual(['queued', 'prefill']);
    expect(phases.get('request 5.1')).toEqual(['queued', 'prefill', 'decode']);
    expect(phases.get('request 6')!.at(-1)).not.toBe('decode');
    expect(phases.get('request 7')).toEqual(['queued', 'paused']);
    const ends = events.filter((e) => e.args['end'] !== undefined).map((e) => [e.name, e.args['end'], e.args['code']]);
    expect(ends.sort()).toEqual([
      ['request 1', 'finished', undefined],
      ['request 2', 'finished', undefined],
      ['request 3', 'finished', undefined],
      ['request 4', 'failed', 'ERR_OUT_OF_MEMORY'],
      ['request 5', 'finished', undefined],
      ['request 5.1', 'finished', undefined],
      ['request 6', 'aborted', 'ERR_ABORTED'],
      ['request 7', 'open', undefined],
    ]);

    const counters = events.filter((e) => e.ph === 'C' && e.pid === pid);
    expect(new Set(counters.map((e) => e.name))).toEqual(new Set(['sequences', 'free blocks']));
    expect(Math.max(...counters.map((e) => Number(e.args['running'] ?? 0)))).toBeGreaterThan(1);
  });

  it('keeps engines apart', async () => {
    const path = join(folder, 'two.json');
    const trace = await traceTo(path);
    const worlds = [new WatchedLoop(), new WatchedLoop()];
    for (const world of worlds) world.submit(9, 3);
    await Promise.all(worlds.map((world) => world.idle()));
    await trace.close();
    for (const world of worlds) {
      const events = read(path).filter((e) => e.pid === world.loop.observer.engine);
      expect(phasesOf(events, events[0]!.pid, trackNames(events, events[0]!.pid).get('request 1')!)).toHaveLength(3);
    }
  });

  it('hears nothing any more once it is closed', async () => {
    const path = join(folder, 'closed.json');
    await (await traceTo(path)).close();
    const world = new WatchedLoop();
    world.submit(9, 3);
    await world.idle();
    expect(read(path)).toEqual([]);
  });

  it('is refused where no file can be', async () => {
    await expect(traceTo(join(folder, 'none', 'x.json'))).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  it.skipIf(process.platform !== 'linux')('says at its end that the disk was full, and never before', async () => {
    const trace = await traceTo('/dev/full');
    const world = new WatchedLoop();
    world.submit(9, 300, { salt: 1 });
    await world.idle();
    await expect(trace.close()).rejects.toMatchObject({ code: 'ERR_IO' });
    expect(world.stats().requests.finished).toBe(1);
    expect(SwiftKVError.is(await trace.close().catch((error) => error))).toBe(true);
  });
});

describe('the file', () => {
  it('is valid after every piece, with every event before it', () => {
    const path = join(folder, 'pieces.json');
    const file = new TraceEventFile(path);
    const name = 'ü'.repeat(500);
    let seen = 0;
    for (let i = 0; i < 400; i++) {
      file.add({ name, ph: 'X', pid: 1, tid: 1, ts: i, dur: 1, args: {} });
      const text = readFileSync(path, 'utf8');
      if (text === '') continue;
      const count = JSON.parse(text).traceEvents.length;
      expect(count).toBeGreaterThanOrEqual(seen);
      seen = count;
    }
    expect(seen).toBeGreaterThan(300);
    file.close();
    expect(read(path).map((e) => e.ts)).toEqual(Array.from({ length: 400 }, (_, i) => i));
  });

  it('is whole when the process exits without closing it', () => {
    const path = join(folder, 'exit.json');
    const url = (file: string) => JSON.stringify(new URL(`../../${file}`, import.meta.url).href);
    const script = `
      import { channel } from 'node:diagnostics_channel';
      import { traceTo } from ${url('dist/trace/chrome-trace.js')};
      await traceTo(${JSON.stringify(path)});
      channel('swiftkv:request').publish({ engine: 1, request: 1, index: 0, event: 'queued', at: 1 });
      process.exit(3);`;
    expect(() => execFileSync(process.execPath, ['--input-type=module', '-e', script], { stdio: 'pipe' })).toThrow();
    expect(
      read(path)
        .filter((e) => e.ph === 'X')
        .map((e) => e.name),
    ).toEqual(['request 1', 'queued']);
  });
});

describe('the phases of an answer', () => {
  function play(...happenings: (RequestEvent | 'rows' | 'token')[]): string {
    const out: string[] = [];
    let last = 0;
    const track = new RequestTrack(1, 0, (phase, start, end) => {
      expect(start).toBe(last);
      last = end;
      out.push(phase);
    });
    for (const [i, what] of happenings.entries()) {
      const at = (i + 1) * 10;
      if (what === 'rows' || what === 'token') track.step(at - 5, at, what === 'token');
      else {
        const counts = { promptTokens: 1, cachedTokens: 0, completionTokens: 0 };
        track.tell({ engine: 1, request: 1, index: 0, event: what, at, ...counts });
      }
    }
    track.end(1000);
    expect(last).toBe(1000);
    return out.join(' ');
  }

  it('begin again with its prompt after a preemption', () => {
    expect(play('started', 'rows', 'first token', 'token', 'preempted', 'rows', 'rows', 'token', 'token')).toBe(
      'queued prefill decode preempted prefill decode',
    );
  });

  it('show a pause, and after it what it does by then', () => {
    expect(play('started', 'paused', 'first token', 'resumed')).toBe('queued prefill paused decode');
    expect(play('paused', 'resumed', 'started')).toBe('queued paused queued prefill');
    expect(play('started', 'first token', 'paused', 'preempted', 'resumed', 'token')).toBe(
      'queued prefill decode paused preempted prefill decode',
    );
  });

  it('do not go back when a step is told of late', () => {
    // Resumed while the step was running that has its rows.
    expect(play('started', 'first token', 'preempted', 'paused', 'resumed', 'rows', 'token')).toBe(
      'queued prefill decode preempted paused preempted prefill decode',
    );
  });
});
