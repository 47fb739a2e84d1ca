// Random histories: arrivals, aborts, readers that leave, failing steps and any cache and step size. After every step the
// books are checked; in the end every answer is the one that the model gives alone, and every block is back.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { BlockManager } from '../../lib/engine/block-manager.ts';
import { EngineLoop } from '../../lib/engine/engine-loop.ts';
import { Job } from '../../lib/engine/job.ts';
import { Scheduler } from '../../lib/engine/scheduler.ts';
import { Sequence } from '../../lib/engine/sequence.ts';
import { SwiftKVError } from '../../lib/errors.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { fakeAnswer } from './fake-model.ts';
import { type FakeOptions, FakeRunner } from './fake-runner.ts';
import { prompt, turn } from './harness.ts';

// Wide enough for answers to last: one token in 499 stops them, another one poisons them.
const vocabSize = 499;
const nanToken = 498;

interface Expected {
  job: Job;
  answer: number[];
  stopIds: ReadonlySet<number>;
  nan: boolean;
  ended: 'no' | 'finished' | 'aborted' | 'ERR_NUMERIC' | 'ERR_OUT_OF_MEMORY';
}

class World {
  readonly runner: FakeRunner;
  readonly blocks: BlockManager;
  readonly scheduler: Scheduler;
  readonly loop: EngineLoop;
  readonly requests: Expected[] = [];
  stepFailures = 0;

  constructor(options: FakeOptions & { maxStepMs: number }) {
    this.runner = new FakeRunner({ ...options, vocabSize, nanToken });
    const { config, capacity, numBlocks, maxModelLen } = this.runner;
    this.blocks = new BlockManager(numBlocks);
    const limits = { ...capacity, maxScoredRows: 4, maxWaiting: 1000, maxModelLen, maxStepMs: options.maxStepMs };
    this.scheduler = new Scheduler(config, limits, this.blocks);
    this.loop = new EngineLoop(this.runner, this.scheduler);
    this.loop.onStep = () => this.scheduler.checkIntegrity();
  }

  submit(length: number, maxTokens: number, how: { seed: number | null; fullDepth: boolean; nan: boolean }): void {
    const ids = prompt(length, this.requests.length).map((id) => id % nanToken);
    if (how.nan) ids[length >> 1] = nanToken;
    const sampler = { ...greedy, temperature: how.seed === null ? 0 : 1, seed: BigInt(how.seed ?? 0) };
    const stopIds = new Set([11]);
    const sequence = new Sequence({
      prompt: Int32Array.from(ids),
      maxTokens,
      stopIds,
      fullDepth: how.fullDepth,
    });
    const answer = fakeAnswer(ids, { maxTokens, vocabSize, stopIds, sampler });
    const request: Expected = {
      job: new Job(sequence, sampler, {
        onUpdate: () => {
          this.noteOnce(request);
          if (sequence.state === 'finished') request.ended = 'finished';
        },
        onError: (error) => {
          this.noteOnce(request);
          request.ended = error.code as Expected['ended'];
        },
      }),
      answer,
      stopIds,
      // The answer may come upon the poisoned token by itself.
      nan: how.nan || answer.slice(0, -1).includes(nanToken),
      ended: 'no',
    };
    this.requests.push(request);
    this.loop.submit(request.job);
  }

  abort(request: Expected): void {
    if (request.ended === 'no' && request.job.sequence.state !== 'finished') request.ended = 'aborted';
    this.loop.abort(request.job);
    this.scheduler.checkIntegrity();
  }

  /** Nobody hears of a request that has ended. */
  private noteOnce(request: Expected): void {
    if (request.ended !== 'no') throw new Error(`told again after ${request.ended}`);
  }
}

/** What the model of fc.commands keeps: how many requests there are. */
interface Model {
  count: number;
}

type Command = fc.AsyncCommand<Model, World>;

const submit = fc
  .record({
    length: fc.integer({ min: 1, max: 60 }),
    maxTokens: fc.integer({ min: 1, max: 60 }),
    seed: fc.option(fc.nat(1000)),
    fullDepth: fc.boolean(),
    nan: fc.nat(12).map((n) => n === 0),
  })
  .map(
    (r): Command => ({
      check: () => true,
      async run(model, world) {
        model.count++;
        world.submit(r.length, r.maxTokens, r);
      },
      toString: () => `submit(${JSON.stringify(r)})`,
    }),
  );

/** Short prompts with long answers outgrow the cache together. */
const burst = fc.integer({ min: 2, max: 5 }).map(
  (requests): Command => ({
    check: () => true,
    async run(model, world) {
      for (let i = 0; i < requests; i++, model.count++) {
        world.submit(12 + i, 50, { seed: null, fullDepth: false, nan: false });
      }
    },
    toString: () => `burst(${requests})`,
  }),
);

const abort = fc.nat(30).map(
  (n): Command => ({
    check: (model) => model.count > 0,
    async run(model, world) {
      world.abort(world.requests[n % model.count]!);
    },
    toString: () => `abort(${n})`,
  }),
);

const wait = fc.integer({ min: 1, max: 40 }).map(
  (turns): Command => ({
    check: () => true,
    async run(_, world) {
      for (let i = 0; i < turns; i++) await turn();
      if (!world.runner.busy) world.scheduler.checkIntegrity();
    },
    toString: () => `wait(${turns})`,
  }),
);

const failStep = fc.constant<Command>({
  check: () => true,
  async run(_, world) {
    world.runner.nextError = new SwiftKVError('ERR_OUT_OF_MEMORY', 'the step failed');
  },
  toString: () => 'failStep',
});

const sizes = fc.record({
  numBlocks: fc.integer({ min: 8, max: 14 }),
  maxRows: fc.constantFrom(1, 2, 7, 16, 33, 64),
  maxSeqs: fc.integer({ min: 1, max: 6 }),
  maxLogitRows: fc.constantFrom(1, 3, 8),
  maxStepMs: fc.constantFrom(0.001, 0.5, 250),
});

let preemptions = 0;
let cancels = 0;

async function play(options: FakeOptions & { maxStepMs: number }, commands: Iterable<Command>): Promise<void> {
  const world = new World({ ...options, maxModelLen: 128 });
  await fc.asyncModelRun(() => ({ model: { count: 0 }, real: world }), commands);
  for (let i = 0; world.requests.some((r) => r.ended === 'no'); i++) {
    if (i > 20_000) throw new Error('not everyone was told');
    await turn();
  }
  for (let i = 0; i < 3; i++) await turn();
  for (const { job, answer, nan, ended } of world.requests) {
    const { sequence } = job;
    const got = Array.from(sequence.tokens.subarray(sequence.promptLength, sequence.length));
    if (ended === 'finished') expect(got).toEqual(answer);
    else expect(got).toEqual(answer.slice(0, got.length));
    if (nan) expect(ended).not.toBe('finished');
    if (ended === 'ERR_NUMERIC') expect(nan).toBe(true);
  }
  world.scheduler.checkIntegrity();
  expect(world.blocks.numFree).toBe(world.runner.numBlocks);
  expect(world.scheduler.numRunning + world.scheduler.numWaiting).toBe(0);
  expect(world.runner.busy).toBe(false);
  preemptions += world.scheduler.numPreemptions;
  cancels += world.runner.cancels;
}

it('keeps every answer and every block through arrivals, aborts and small caches', async () => {
  await fc.assert(
    fc.asyncProperty(
      sizes,
      fc.commands([submit, submit, burst, wait, wait, abort], { maxCommands: 40, size: '+1' }),
      play,
    ),
    {
      numRuns: 50,
    },
  );
  expect(preemptions).toBeGreaterThan(10);
  expect(cancels).toBeGreaterThan(3);
}, 120_000);

it('keeps the others through failing steps', async () => {
  const commands = fc.commands([submit, submit, wait, failStep], { maxCommands: 30, size: '+1' });
  await fc.assert(fc.asyncProperty(sizes, commands, play), { numRuns: 20 });
}, 120_000);
