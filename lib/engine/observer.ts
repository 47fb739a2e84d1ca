// Watches an engine's loop: counts always, and tells the diagnostics channels while somebody listens. Counting takes a
// microsecond a step, nearly all of it for reading the clock, and allocates nothing.

import type { ErrorCode } from '../errors.ts';
import type { StepBatch } from '../model/runner.ts';
import { type RequestEvent, type RequestMessage, requestChannel, type StepMessage, stepChannel } from './channels.ts';
import { DurationHistogram } from './histogram.ts';
import type { Job } from './job.ts';
import type { Scheduler } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import type { StepPlan } from './step-plan.ts';

const stepBounds = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
const javascriptBounds = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100];

let numEngines = 0;

export class EngineObserver {
  /** Which engine of this thread. */
  readonly engine = ++numEngines;
  /** Since the engine was loaded; the answers to one prompt count one by one. */
  readonly requests = { queued: 0, finished: 0, aborted: 0, failed: 0, rejected: 0 };
  /** Of those that started: prompts, and what of them was in the cache; and what was generated. */
  readonly tokens = { prompt: 0, cached: 0, completion: 0 };
  /** Of steps that succeeded. */
  readonly stepMs = new DurationHistogram(stepBounds);
  readonly javascriptMs = new DurationHistogram(javascriptBounds);
  rowLayersRun = 0;
  rowLayersSkipped = 0;
  steps = 0;

  private readonly scheduler: Scheduler;
  private preemptions = 0;
  /** Of performance.now(); each ends one part of a step and begins the next. */
  private planningAt = 0;
  private plannedAt = 0;
  private startedAt = 0;
  private submittedAt = 0;
  private notifiedAt = 0;
  endedAt = 0;
  /** Of the step in flight, while somebody listens. */
  private message: StepMessage | null = null;

  constructor(scheduler: Scheduler) {
    this.scheduler = scheduler;
  }

  planning(): void {
    this.planningAt = performance.now();
  }

  /** `plan` is the next step's, or null when nobody can run. */
  planned(plan: StepPlan | null, jobs: ReadonlyMap<Sequence, Job>): void {
    this.plannedAt = performance.now();
    if (this.preemptions !== this.scheduler.numPreemptions) this.findPreempted(jobs);
    if (plan === null) return;
    this.steps++;
    this.message = stepChannel.hasSubscribers ? this.describe(plan, jobs) : null;
  }

  /** The batch is written. */
  stepStarting(): void {
    this.startedAt = performance.now();
  }

  /** Native code has it. */
  stepSubmitted(): void {
    this.submittedAt = performance.now();
  }

  /** Whoever waited for the step before has been told. */
  notified(): void {
    this.notifiedAt = performance.now();
  }

  /** Results are there. */
  stepEnded(): void {
    this.endedAt = performance.now();
  }

  /** @param ms what the step took, from its first op to its last */
  stepApplied(plan: StepPlan, batch: StepBatch, ms: number): void {
    const appliedAt = performance.now();
    const { layerRows } = batch;
    let run = 0;
    for (let layer = 0; layer < layerRows.length; layer++) run += layerRows[layer]!;
    this.rowLayersRun += run;
    this.rowLayersSkipped += plan.rows * layerRows.length - run;
    this.stepMs.add(ms);
    this.javascriptMs.add(this.notifiedAt - this.planningAt + (appliedAt - this.endedAt));
    if (this.message !== null) this.publishStep(this.message, appliedAt);
  }

  stepFailed(code: ErrorCode): void {
    if (this.message === null) return;
    // It may have failed before it started.
    if (this.startedAt < this.plannedAt) this.stepStarting();
    if (this.submittedAt < this.startedAt) this.stepSubmitted();
    if (this.notifiedAt < this.submittedAt) this.notified();
    this.stepEnded();
    this.message.code = code;
    this.publishStep(this.message, this.endedAt);
  }

  queued(job: Job): void {
    this.requests.queued++;
    this.tell(job, 'queued');
  }

  rejected(count: number): void {
    this.requests.rejected += count;
  }

  /** It gets its first rows. */
  started(job: Job): void {
    this.tokens.prompt += job.sequence.promptLength;
    this.tokens.cached += job.sequence.cachedTokens;
    this.tell(job, 'started');
  }

  /** Something that is not counted here. */
  tell(job: Job, event: RequestEvent, code?: ErrorCode): void {
    if (requestChannel.hasSubscribers) requestChannel.publish(this.describeRequest(job, event, code));
  }

  ended(job: Job, how: 'finished' | 'aborted' | 'failed', code?: ErrorCode): void {
    this.requests[how]++;
    this.tell(job, how, code);
  }

  private findPreempted(jobs: ReadonlyMap<Sequence, Job>): void {
    this.preemptions = this.scheduler.numPreemptions;
    for (const job of jobs.values()) {
      const { numPreemptions } = job.sequence;
      if (job.seenPreemptions === numPreemptions) continue;
      job.seenPreemptions = numPreemptions;
      this.tell(job, 'preempted');
    }
  }

  private describe(plan: StepPlan, jobs: ReadonlyMap<Sequence, Job>): StepMessage {
    const { scheduler } = this;
    const items: StepMessage['items'] = [];
    let survivors = 0;
    for (let i = 0; i < plan.size; i++) {
      const item = plan.items[i]!;
      const { start, count, sample } = item;
      const { id, index } = jobs.get(item.sequence)!;
      survivors += count - item.survivors;
      items.push({ request: id, index, start, count, sample });
    }
    return {
      engine: this.engine,
      step: this.steps,
      startedAt: 0,
      endedAt: 0,
      scheduleMs: this.plannedAt - this.planningAt,
      fillMs: 0,
      submitMs: 0,
      notifyMs: 0,
      applyMs: 0,
      rows: plan.rows,
      survivors,
      logitRows: plan.logitRows,
      copies: plan.numCopies,
      items,
      running: scheduler.numRunning,
      waiting: scheduler.numWaiting,
      freeBlocks: scheduler.numFreeBlocks,
      preemptions: scheduler.numPreemptions,
    };
  }

  private publishStep(message: StepMessage, appliedAt: number): void {
    this.message = null;
    message.startedAt = this.startedAt;
    message.endedAt = this.endedAt;
    message.fillMs = this.startedAt - this.plannedAt;
    message.submitMs = this.submittedAt - this.startedAt;
    message.notifyMs = this.notifiedAt - this.submittedAt;
    message.applyMs = appliedAt - this.endedAt;
    stepChannel.publish(message);
  }

  private describeRequest({ sequence, id, index }: Job, event: RequestEvent, code?: ErrorCode): RequestMessage {
    const message: RequestMessage = {
      engine: this.engine,
      request: id,
      index,
      event,
      at: performance.now(),
      promptTokens: sequence.promptLength,
      cachedTokens: sequence.cachedTokens,
      completionTokens: sequence.numOutput,
    };
    if (code !== undefined) message.code = code;
    return message;
  }
}
