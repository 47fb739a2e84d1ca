// Every stage of an engine's life is ended in every way, in processes of their own: their last words say how they fared.

import { describe, expect, test, vi } from 'vitest';
import { runScript, survives } from './support.ts';

// Two processors, several scripts at once: seconds alone, much more on a busy machine.
vi.setConfig({ testTimeout: 150_000, maxConcurrency: 3 });

describe.concurrent('stopping', () => {
  test('a request aborted before, in prefill, in decode and after its end costs no further step', () =>
    survives('abort-stages.mjs'));
  test('a load aborted at any turn of the event loop leaves no memory', () => survives('abort-load.mjs'));
  test('dispose at any moment, twice, with work in flight, beside a neighbour', () => survives('dispose-busy.mjs'));
  test('workers terminated before load, in load, prefill, decode and after dispose', () =>
    survives('terminate-workers.mjs'));
  test('streams never consumed, never read, read slowly, left', () => survives('readers.mjs'));
  test('engines forgotten without dispose are collected', () => survives('collected.mjs'));
});

describe('process exit with work in flight', () => {
  test.concurrent.each([
    'end of script',
    'engine left alone',
    'unconsumed generate',
    'stream never read',
    'exit in a callback',
    'exit while loading',
    'exit in dispose',
    'exit in a worker',
    'cluster',
  ])('%s', (way) => survives('exit.mjs', way));

  test('an uncaught exception ends the process as Node does, not as a crash', async () => {
    const outcome = await runScript('exit.mjs', 'uncaught exception');
    expect(outcome).toMatchObject({ code: 1, signal: null, stdout: '' });
    expect(outcome.stderr).toContain('on purpose');
    expect(outcome.stderr).not.toContain('unhandled');
  });
});
