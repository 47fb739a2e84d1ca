// An engine's loop over the fake model, the requests made of it with the answers they should get, and what happened.

import { BlockManager } from '../../lib/engine/block-manager.ts';
import { EngineLoop } from '../../lib/engine/engine-loop.ts';
import { Job } from '../../lib/engine/job.ts';
import { rootOf } from '../../lib/engine/prefix-cache.ts';
import { Scheduler } from '../../lib/engine/scheduler.ts';
import { Sequence, SequenceGroup } from '../../lib/engine/sequence.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { fakeAnswer } from './fake-model.ts';
import { type FakeOptions, FakeRunner } from './fake-runner.ts';

// Wide enough for answers to last: one token in 499 stops them, another one poisons them.
const vocabSize = 499;
const nanToken = 498;
const stopIds = new Set([11]);

const endings: ReadonlySet<string> = new Set(['finished', 'aborted', 'ERR_NUMERIC', 'ERR_OUT_OF_MEMORY']);

export interface Request {
  job: Job;
  answer: number[];
  /** Its context comes upon the poisoned token. */
  nan: boolean;
  /** 'no', 'finished', 'aborted' or the code of an error. */
  ended: string;
}

export interface RequestOptions {
  length: number;
  maxTokens: number;
  /** Prompts of one family agree on their first tokens; -1: on none. */
  family: number;
  /** null: greedy. */
  seed: number | null;
  fullDepth?: boolean;
  nan?: boolean;
  /** null: no prefix cache. */
  salt?: string | null;
  priority?: number;
  /** Answers to the prompt. */
  n?: number;
}

/** Over all worlds of a test. */
export class Counters {
  steps = 0;
  preemptions = 0;
  cancels = 0;
  hitTokens = 0;
  evictions = 0;
  forks = 0;
  copies = 0;
  pausedSteps = 0;
  resets = 0;
}

export class World {
  readonly runner: FakeRunner;
  readonly blocks: BlockManager;
  readonly scheduler: Scheduler;
  readonly loop: EngineLoop;
  readonly requests: Request[] = [];
  readonly counters: Counters;
  /** What the clock says of each step from now on. */
  stepMs = 1;

  constructor(options: FakeOptions & { maxStepMs: number; prefixCaching: boolean }, counters: Counters) {
    this.counters = counters;
    this.runner = new FakeRunner({ ...options, vocabSize, nanToken, stepMs: () => this.stepMs });
    const { config, capacity, numBlocks, maxModelLen } = this.runner;
    this.blocks = new BlockManager(numBlocks, { prefixCaching: options.prefixCaching });
    const limits = { ...capacity, maxScoredRows: 4, maxWaiting: 1000, maxModelLen, maxStepMs: options.maxStepMs };
    this.scheduler = new Scheduler(config, limits, this.blocks);
    this.loop = new EngineLoop(this.runner, this.scheduler);
    this.loop.onStep = (plan) => {
      this.scheduler.checkIntegrity();
      counters.steps++;
      counters.copies += plan.numCopies;
      if (this.scheduler.numPaused > 0) counters.pausedSteps++;
    };
  }

  submit(options: RequestOptions): void {
    const { length, maxTokens, family, seed, fullDepth = false, nan = false } = options;
    const { salt = '', priority = 0, n = 1 } = options;
    const prompt = promptOf(length, family, this.requests.length);
    if (nan) prompt[length >> 1] = nanToken;
    const root = salt === null ? 0 : rootOf(salt);
    const group = n > 1 ? new SequenceGroup() : null;
    const jobs = Array.from({ length: n }, (_, choice) => {
      const sampler = { ...greedy, temperature: seed === null ? 0 : 1, seed: BigInt(seed ?? 0), choice };
      const sequence = new Sequence({ prompt, maxTokens, stopIds, fullDepth, priority, root, group });
      const answer = fakeAnswer(prompt, { maxTokens, vocabSize, stopIds, sampler });
      const request: Request = {
        job: new Job(sequence, sampler, {
          onUpdate: () => {
            noteOnce(request);
            if (sequence.state === 'finished') request.ended = 'finished';
          },
          onError: (error) => {
            noteOnce(request);
            request.ended = error.code;
          },
        }),
        answer,
        // The answer may come upon the poisoned token by itself.
        nan: nan || prompt.includes(nanToken) || answer.slice(0, -1).includes(nanToken),
        ended: 'no',
      };
      this.requests.push(request);
      return request.job;
    });
    this.loop.submit(...jobs);
  }

  abort(request: Request): void {
    if (request.ended === 'no' && request.job.sequence.state !== 'finished') request.ended = 'aborted';
    this.loop.abort(request.job);
    this.scheduler.checkIntegrity();
  }

  /** Once nobody waits or runs any more: every answer is right, and every block is back. */
  settle(): string[] {
    const wrong: string[] = [];
    for (const [i, { job, answer, nan, ended }] of this.requests.entries()) {
      const { sequence } = job;
      const got = Array.from(sequence.tokens.subarray(sequence.promptLength, sequence.length));
      const expected = ended === 'finished' ? answer : answer.slice(0, got.length);
      if (got.join() !== expected.join()) wrong.push(`answer ${i} (${ended}): ${got}, not ${expected}`);
      if (!endings.has(ended)) wrong.push(`answer ${i} ended with ${ended}`);
      if (nan && ended === 'finished') wrong.push(`answer ${i} is drawn from NaN`);
      if (!nan && ended === 'ERR_NUMERIC') wrong.push(`answer ${i} failed for another one's NaN`);
      if (sequence.group !== null && sequence.cachedTokens === sequence.promptLength - 1) this.counters.forks++;
    }
    this.scheduler.checkIntegrity();
    const { blocks, scheduler, runner, counters } = this;
    if (blocks.numFree !== runner.numBlocks) wrong.push(`${blocks.numFree} of ${runner.numBlocks} blocks came back`);
    if (scheduler.numRunning + scheduler.numWaiting > 0) wrong.push('somebody is left');
    if (runner.busy) wrong.push('a step is left');
    counters.preemptions += scheduler.numPreemptions;
    counters.cancels += runner.cancels;
    counters.hitTokens += blocks.prefixStats.hitTokens;
    counters.evictions += blocks.prefixStats.evictions;
    return wrong;
  }
}

/** Nobody hears of a request that has ended. */
function noteOnce(request: Request): void {
  if (request.ended !== 'no') throw new Error(`told again after ${request.ended}`);
}

/** Prompts of a family are the same, but for their last third, where every second one goes its own way. */
function promptOf(length: number, family: number, index: number): Int32Array {
  const salt = family < 0 ? 100 + index : family;
  const own = index % 2 === 0 ? length : length - Math.floor(length / 3);
  return Int32Array.from(
    { length },
    (_, i) => (i * i * 3 + i * 31 + salt * 17 + (i >= own ? index + 1 : 0)) % nanToken,
  );
}
