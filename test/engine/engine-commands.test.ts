// Random histories: arrivals, shared prompts, several answers to one, priorities, aborts, readers that leave or pause, failing
// steps, resets, jumping clocks, and any cache and step size. After every step the books are checked; in the end every answer is the one that
// the model gives alone, and every block is back.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SwiftKVError } from '../../lib/errors.ts';
import { Counters, type Request, World } from './command-world.ts';
import type { FakeOptions } from './fake-runner.ts';
import { turn } from './harness.ts';

type Command = fc.AsyncCommand<object, World>;

function command<T>(name: string, arbitrary: fc.Arbitrary<T>, run: (world: World, value: T) => void | Promise<void>) {
  return arbitrary.map(
    (value): Command => ({
      check: () => true,
      run: async (_, world) => run(world, value),
      toString: () => `${name}(${JSON.stringify(value)})`,
    }),
  );
}

/** A request among those made so far. */
function pick({ requests }: World, n: number): Request | undefined {
  return requests[n % Math.max(1, requests.length)];
}

const some = fc.nat(30);

const submit = command(
  'submit',
  fc.record({
    length: fc.integer({ min: 1, max: 60 }),
    maxTokens: fc.integer({ min: 1, max: 60 }),
    family: fc.constantFrom(-1, 0, 1),
    seed: fc.option(fc.nat(1000)),
    fullDepth: fc.boolean(),
    nan: fc.nat(12).map((n) => n === 0),
    salt: fc.constantFrom('', '', 'another tenant', null),
    priority: fc.constantFrom(0, 0, 0, -1, 2),
    n: fc.constantFrom(1, 1, 1, 2, 4),
  }),
  (world, options) => world.submit(options),
);

/** Short prompts with long answers outgrow the cache together. */
const burst = command('burst', fc.integer({ min: 2, max: 5 }), (world, requests) => {
  for (let i = 0; i < requests; i++) world.submit({ length: 12 + i, maxTokens: 50, family: -1, seed: null });
});

/** What is asked of one long text, one after the other or at once. */
const questions = command(
  'questions',
  fc.record({ length: fc.integer({ min: 33, max: 90 }), count: fc.integer({ min: 2, max: 4 }), family: fc.nat(1) }),
  (world, { length, count, family }) => {
    for (let i = 0; i < count; i++) world.submit({ length: length + i, maxTokens: 4 + i, family, seed: i });
  },
);

const abort = command('abort', some, (world, n) => {
  const request = pick(world, n);
  if (request !== undefined) world.abort(request);
});

const pause = command('pause', some, (world, n) => {
  const request = pick(world, n);
  if (request !== undefined) world.loop.pause(request.job);
});

const resume = command('resume', some, (world, n) => {
  const request = pick(world, n);
  if (request !== undefined) world.loop.resume(request.job);
});

const reset = command('reset', fc.constant(null), (world) => {
  world.blocks.resetPrefixCache();
  world.scheduler.checkIntegrity();
  world.counters.resets++;
});

const wait = command('wait', fc.integer({ min: 1, max: 40 }), async (world, turns) => {
  for (let i = 0; i < turns; i++) await turn();
  if (!world.runner.busy) world.scheduler.checkIntegrity();
});

/** The clock of a machine that was suspended, throttled or set: what the cost model believes then is nonsense. */
const jump = command('jump', fc.constantFrom(-1000, 0, 1e-9, 1, 1e4, 1e12), (world, ms) => {
  world.stepMs = ms;
});

const failStep = command('failStep', fc.constant(null), (world) => {
  world.runner.nextError = new SwiftKVError('ERR_OUT_OF_MEMORY', 'the step failed');
});

const sizes = fc.record({
  numBlocks: fc.integer({ min: 8, max: 14 }),
  maxRows: fc.constantFrom(1, 2, 7, 16, 33, 64),
  maxSeqs: fc.integer({ min: 1, max: 6 }),
  maxLogitRows: fc.constantFrom(1, 3, 8),
  maxStepMs: fc.constantFrom(0.001, 0.5, 250),
  prefixCaching: fc.constantFrom(true, true, true, false),
});

type Sizes = FakeOptions & { maxStepMs: number; prefixCaching: boolean };

async function play(options: Sizes, commands: Iterable<Command>, counters: Counters): Promise<void> {
  const world = new World({ ...options, maxModelLen: 128 }, counters);
  await fc.asyncModelRun(() => ({ model: {}, real: world }), commands);
  for (const { job } of world.requests) world.loop.resume(job);
  for (let i = 0; world.requests.some((r) => r.ended === 'no'); i++) {
    if (i > 50_000) throw new Error('not everyone was told');
    await turn();
  }
  for (let i = 0; i < 3; i++) await turn();
  expect(world.settle()).toEqual([]);
}

/** Plays `numRuns` histories of up to `maxCommands` commands and says what happened in them. */
async function playMany(kinds: fc.Arbitrary<Command>[], numRuns: number, maxCommands: number): Promise<Counters> {
  const counters = new Counters();
  const commands = fc.commands(kinds, { maxCommands, size: 'max' });
  await fc.assert(
    fc.asyncProperty(sizes, commands, (options, list) => play(options, list, counters)),
    { numRuns },
  );
  return counters;
}

it('keeps every answer and every block through arrivals, aborts, pauses, shared prompts and small caches', async () => {
  const kinds = [submit, submit, burst, questions, questions, wait, wait, abort, pause, resume, resume, reset, jump];
  // As many histories as make the rarest event sure to be seen: 60 had 7 to 16 cancelled steps, and once 3.
  const counters = await playMany(kinds, 120, 60);
  expect(counters.preemptions).toBeGreaterThan(10);
  expect(counters.cancels).toBeGreaterThan(3);
  expect(counters.hitTokens).toBeGreaterThan(500);
  expect(counters.evictions).toBeGreaterThan(30);
  expect(counters.forks).toBeGreaterThan(10);
  expect(counters.copies).toBeGreaterThan(10);
  expect(counters.pausedSteps).toBeGreaterThan(100);
  expect(counters.resets).toBeGreaterThan(10);
}, 120_000);

it('keeps them through thousands of steps', async () => {
  const kinds = [
    submit,
    submit,
    submit,
    burst,
    questions,
    questions,
    wait,
    wait,
    wait,
    abort,
    pause,
    resume,
    resume,
    jump,
  ];
  const counters = await playMany(kinds, 8, 600);
  expect(counters.steps).toBeGreaterThan(5000);
  expect(counters.preemptions).toBeGreaterThan(20);
  expect(counters.hitTokens).toBeGreaterThan(2000);
}, 120_000);

it('keeps the others through failing steps', async () => {
  const counters = await playMany([submit, submit, questions, wait, failStep, pause, resume], 100, 60);
  expect(counters.forks + counters.copies).toBeGreaterThan(3);
}, 120_000);
