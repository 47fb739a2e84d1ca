// A loop over the fake model whose prefix cache is on, and what it tells the diagnostics channels.

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { BlockManager } from '../../lib/engine/block-manager.ts';
import { channelNames, type RequestMessage, type StepMessage } from '../../lib/engine/channels.ts';
import { EngineLoop } from '../../lib/engine/engine-loop.ts';
import { Job } from '../../lib/engine/job.ts';
import { rootOf } from '../../lib/engine/prefix-cache.ts';
import { Scheduler } from '../../lib/engine/scheduler.ts';
import { Sequence, SequenceGroup, type SequenceOptions } from '../../lib/engine/sequence.ts';
import { engineStats } from '../../lib/engine/stats.ts';
import type { SwiftKVError } from '../../lib/errors.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { type FakeOptions, FakeRunner } from './fake-runner.ts';
import { prompt, until } from './harness.ts';

export class WatchedLoop {
  readonly runner: FakeRunner;
  readonly blocks: BlockManager;
  readonly scheduler: Scheduler;
  readonly loop: EngineLoop;
  readonly errors: SwiftKVError[] = [];

  constructor(options: FakeOptions = {}) {
    this.runner = new FakeRunner(options);
    const { capacity, config, maxModelLen, numBlocks } = this.runner;
    this.blocks = new BlockManager(numBlocks, { prefixCaching: true });
    const limits = { ...capacity, maxScoredRows: 16, maxWaiting: 100, maxModelLen, maxStepMs: 250 };
    this.scheduler = new Scheduler(config, limits, this.blocks);
    this.loop = new EngineLoop(this.runner, this.scheduler);
  }

  job(tokens: number[], maxTokens: number, more: Partial<SequenceOptions> = {}, sampler = greedy): Job {
    const sequence = new Sequence({
      prompt: Int32Array.from(tokens),
      maxTokens,
      stopIds: new Set(),
      root: rootOf(''),
      ...more,
    });
    return new Job(sequence, sampler, { onUpdate() {}, onError: (error) => this.errors.push(error) });
  }

  /** Submits a request of `n` answers. */
  submit(length: number, maxTokens: number, { salt = 0, n = 1, ...more }: SubmitOptions = {}): Job[] {
    const group = n > 1 ? new SequenceGroup() : null;
    const jobs = Array.from({ length: n }, () => this.job(prompt(length, salt), maxTokens, { group, ...more }));
    this.loop.submit(...jobs);
    return jobs;
  }

  /** Waits until nothing is left to do. */
  idle(): Promise<void> {
    return until(() => this.scheduler.numRunning + this.scheduler.numWaiting === 0 && !this.runner.busy);
  }

  stats() {
    const { scheduler, blocks, loop } = this;
    const memory = { ...this.runner.memory(), tokenizerWorkers: 0 };
    return engineStats({ observer: loop.observer, scheduler, blocks, eventLoopLag: null, memory });
  }
}

interface SubmitOptions extends Partial<SequenceOptions> {
  salt?: number;
  n?: number;
}

/** Collects messages until `close`. */
export function listen() {
  const steps: StepMessage[] = [];
  const requests: RequestMessage[] = [];
  const onStep = (message: unknown) => void steps.push(message as StepMessage);
  const onRequest = (message: unknown) => void requests.push(message as RequestMessage);
  subscribe(channelNames.step, onStep);
  subscribe(channelNames.request, onRequest);
  return {
    steps,
    requests,
    /** What happened to one answer, in order. */
    events: (request: number, index = 0) =>
      requests.filter((m) => m.request === request && m.index === index).map((m) => m.event),
    close() {
      unsubscribe(channelNames.step, onStep);
      unsubscribe(channelNames.request, onRequest);
    },
  };
}
