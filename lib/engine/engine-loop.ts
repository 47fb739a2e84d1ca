// Drives the runner: plan, write, run, apply, and tell listeners of step k while step k+1 runs. Runs while there is work.

import { type ErrorCode, SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { ModelRunner, StepBatch } from '../model/runner.ts';
import { noNumbers } from '../native/binding.ts';
import { callTokenMask } from '../sampling/token-mask.ts';
import { BatchWriter } from './batch-fill.ts';
import type { Job } from './job.ts';
import { EngineObserver } from './observer.ts';
import type { Scheduler } from './scheduler.ts';
import type { Sequence } from './sequence.ts';
import type { PlanItem, StepPlan } from './step-plan.ts';

/** Called when a step has ended and its results are applied; for tests and measurements. */
export type StepObserver = (plan: StepPlan, ms: number) => void;

export class EngineLoop {
  onStep: StepObserver | null = null;
  readonly observer: EngineObserver;

  private readonly runner: ModelRunner;
  private readonly scheduler: Scheduler;
  private readonly writers: readonly [BatchWriter, BatchWriter];
  /** Jobs that have not ended. */
  private readonly jobs = new Map<Sequence, Job>();
  /** Jobs to tell of the last step, and those among them that failed. */
  private readonly updated: Job[] = [];
  private readonly failed: { job: Job; error: SwiftKVError }[] = [];
  /** The step in flight, until it is cancelled. */
  private current: StepPlan | null = null;
  private driving: Promise<void> | null = null;
  private numRequests = 0;
  /** Why no more work is taken. */
  private closed: SwiftKVError | null = null;

  constructor(runner: ModelRunner, scheduler: Scheduler) {
    this.runner = runner;
    this.scheduler = scheduler;
    this.observer = new EngineObserver(scheduler);
    this.writers = [new BatchWriter(runner.batches[0]), new BatchWriter(runner.batches[1])];
  }

  /**
   * Queues the jobs of one request, all or none; their first step starts after the current turn of the event loop's
   * microtasks.
   * @throws ERR_CONTEXT_LENGTH, ERR_CACHE_TOO_SMALL, ERR_QUEUE_FULL, ERR_DISPOSED
   */
  submit(...jobs: Job[]): void {
    try {
      if (this.closed !== null) throw this.closed;
      this.scheduler.add(...jobs.map((job) => job.sequence));
    } catch (error) {
      this.observer.rejected(jobs.length);
      throw error;
    }
    const id = ++this.numRequests;
    for (const [index, job] of jobs.entries()) {
      this.jobs.set(job.sequence, job);
      job.id = id;
      job.index = index;
      this.observer.queued(job);
    }
    this.driving ??= this.drive();
  }

  /** The job gets no more tokens, after those of the step in flight, until `resume`. */
  pause(job: Job): void {
    if (!this.jobs.has(job.sequence) || job.sequence.paused) return;
    this.scheduler.pause(job.sequence);
    this.observer.tell(job, 'paused');
  }

  resume(job: Job): void {
    if (!this.jobs.has(job.sequence) || !job.sequence.paused) return;
    this.scheduler.resume(job.sequence);
    this.observer.tell(job, 'resumed');
    this.driving ??= this.drive();
  }

  /**
   * The job's listener is not called any more. A step in which nobody is left is stopped.
   * @param code why
   */
  abort(job: Job, code: ErrorCode = 'ERR_ABORTED'): void {
    if (this.remove(job)) this.observer.ended(job, 'aborted', code);
  }

  /** Takes a job out that has not ended. */
  private remove(job: Job): boolean {
    if (!this.jobs.delete(job.sequence)) return false;
    this.scheduler.abort(job.sequence);
    this.stopIdleStep();
    return true;
  }

  /** The answer so far is the whole one: like `abort`, but the sequence is finished. */
  finish(job: Job): void {
    if (!this.jobs.delete(job.sequence)) return;
    job.endedAt = performance.now();
    this.scheduler.finish(job.sequence);
    this.observer.ended(job, 'finished');
    this.stopIdleStep();
  }

  private stopIdleStep(): void {
    const plan = this.current;
    if (plan === null) return;
    for (let i = 0; i < plan.size; i++) {
      if (plan.items[i]!.sequence.state === 'running') return;
    }
    this.current = null;
    this.runner.cancel();
  }

  /** Rejects every job with `error`, takes no more, and waits for the step in flight. Idempotent. */
  async close(error: SwiftKVError): Promise<void> {
    this.closed ??= error;
    for (const job of [...this.jobs.values()]) {
      this.abort(job, this.closed.code);
      job.listener.onError(this.closed);
    }
    await this.driving;
  }

  private async drive(): Promise<void> {
    // Requests made in the same turn share the first step.
    await null;
    try {
      for (;;) {
        this.observer.planning();
        const plan = this.scheduler.schedule();
        this.observer.planned(plan, this.jobs);
        if (plan !== null) await this.step(plan);
        // Nobody can run: what is left has been paused, and `resume` comes back.
        else if (this.updated.length + this.failed.length === 0) break;
        else this.notify();
      }
    } catch (error) {
      this.breakDown(error);
    } finally {
      this.driving = null;
    }
  }

  private async step(plan: StepPlan): Promise<void> {
    const writer = this.writers[this.observer.steps & 1]!;
    let ms = 0;
    try {
      writer.write(plan);
      this.setSamplers(plan);
      this.writeMasks(plan, writer);
      this.observer.stepStarting();
      const running = this.runner.run(writer.batch);
      this.observer.stepSubmitted();
      this.current = plan;
      try {
        // Results of the step before are handed on while this one runs.
        this.notify();
        this.observer.notified();
      } finally {
        ms = (await running).ms;
      }
      this.observer.stepEnded();
      this.copyLogits(plan);
    } catch (error) {
      this.current = null;
      this.failStep(plan, toSwiftKVError(error));
      return;
    }
    this.current = null;
    this.scheduler.complete(plan, writer.batch.sampledIds, writer.batch.rowLayers, ms);
    this.applyStep(plan, writer.batch);
    this.observer.stepApplied(plan, writer.batch, ms);
    this.onStep?.(plan, ms);
  }

  /** Where a sampler finds no memory, its request leaves the step. */
  private setSamplers(plan: StepPlan): void {
    for (let i = 0; i < plan.size; i++) {
      const { sequence } = plan.items[i]!;
      if (sequence.samplerSet) continue;
      // The first rows of a sequence in this slot. After a preemption its sampler knows its output so far.
      sequence.samplerSet = true;
      const job = this.jobs.get(sequence)!;
      const { promptLength, tokens, length } = sequence;
      const prompt = tokens.subarray(0, promptLength);
      if (Number.isNaN(job.startedAt)) {
        job.startedAt = performance.now();
        this.observer.started(job);
      }
      try {
        this.runner.setSampler(sequence.slot, job.sampler, prompt, tokens.subarray(promptLength, length));
      } catch (error) {
        this.leave(job, error);
      }
    }
  }

  /** Says which tokens may be drawn, where a request limits them. A request whose mask fails leaves the step. */
  private writeMasks(plan: StepPlan, writer: BatchWriter): void {
    let row = 0;
    for (let i = 0; i < plan.size; i++) {
      const item = plan.items[i]!;
      // A caller's mask may have ended a request of the step.
      const job = this.jobs.get(item.sequence);
      if (job === undefined || !item.sample || (job.allowed === null && job.tokenMask === null)) continue;
      try {
        if (writer.writeMask(item, row, job.allowed, this.callTokenMask(job))) row++;
      } catch (error) {
        this.leave(job, error);
      }
    }
  }

  /** Fails one request of a step that has been written and not begun: its rows are computed for nobody. */
  private leave(job: Job, cause: unknown): void {
    const error = toSwiftKVError(cause);
    if (this.remove(job)) this.observer.ended(job, 'failed', error.code);
    this.failed.push({ job, error });
  }

  private callTokenMask({ tokenMask, sequence }: Job): Uint32Array | null {
    if (tokenMask === null) return null;
    const { tokens, promptLength, length } = sequence;
    return callTokenMask(tokenMask, tokens.subarray(promptLength, length), this.runner.config.vocabSize);
  }

  private copyLogits(plan: StepPlan): void {
    if (plan.scoredRows === 0) return;
    const vocab = this.runner.config.vocabSize;
    const logits = this.runner.readLogits(plan.scoredRows);
    for (let i = 0; i < plan.size; i++) {
      const { sequence, start, count, logitStart, logitRows } = plan.items[i]!;
      if (sequence.scoring !== 'logits') continue;
      const rows = logits.subarray(logitStart * vocab, (logitStart + logitRows) * vocab);
      this.jobs.get(sequence)?.logits?.set(rows, (start + count - logitRows) * vocab);
    }
  }

  private applyStep(plan: StepPlan, batch: StepBatch): void {
    const { observer } = this;
    const now = observer.endedAt;
    for (let i = 0; i < plan.size; i++) {
      const item = plan.items[i]!;
      const { sequence, sample } = item;
      const job = this.jobs.get(sequence);
      if (job === undefined) continue;
      if (sequence.state === 'failed') {
        this.fail(job, drawError(item, batch));
        continue;
      }
      if (item.logprobRows > 0) storeLogprobs(job, item, batch);
      if (sample) {
        observer.tokens.completion++;
        if (Number.isNaN(job.firstTokenAt)) {
          job.firstTokenAt = now;
          observer.tell(job, 'first token');
        }
        job.lastTokenAt = now;
      }
      if (sequence.state === 'finished') {
        job.endedAt = now;
        this.jobs.delete(sequence);
        observer.ended(job, 'finished');
      }
      if (sample || sequence.state === 'finished') this.updated.push(job);
    }
  }

  private failStep(plan: StepPlan, error: SwiftKVError): void {
    this.scheduler.fail(plan);
    this.observer.stepFailed(error.code);
    for (let i = 0; i < plan.size; i++) {
      const { sequence } = plan.items[i]!;
      const job = this.jobs.get(sequence);
      if (job === undefined || sequence.state !== 'failed') continue;
      this.fail(job, error);
    }
  }

  /** Its sequence has failed. */
  private fail(job: Job, error: SwiftKVError): void {
    this.jobs.delete(job.sequence);
    this.observer.ended(job, 'failed', error.code);
    this.failed.push({ job, error });
  }

  private notify(): void {
    for (const job of this.updated) job.listener.onUpdate();
    this.updated.length = 0;
    for (const { job, error } of this.failed) job.listener.onError(error);
    this.failed.length = 0;
  }

  /** The loop itself is defective: nobody may be left waiting. */
  private breakDown(cause: unknown): void {
    const error = toSwiftKVError(cause);
    this.closed ??= error;
    this.current = null;
    for (const job of this.jobs.values()) this.observer.ended(job, 'failed', error.code);
    const jobs = [...this.jobs.values(), ...this.failed.map((f) => f.job), ...this.updated];
    this.jobs.clear();
    this.failed.length = 0;
    this.updated.length = 0;
    for (const job of jobs) job.listener.onError(error);
  }
}

function storeLogprobs(job: Job, item: PlanItem, batch: StepBatch): void {
  const { sequence, logprobStart, logprobRows } = item;
  // Of the token that the first logit row is followed by.
  const position = item.start + item.count - item.logitRows + 1;
  for (let k = 0; k < logprobRows; k++) {
    const at = position + k;
    if (at < sequence.promptLength) job.promptLogprobs?.set(at, batch, logprobStart + k);
    else job.logprobs?.set(at - sequence.promptLength, batch, logprobStart + k);
  }
}

/** Why a sequence has no next token. */
function drawError({ sequence, logitStart, logitRows }: PlanItem, { sampledIds }: StepBatch): SwiftKVError {
  if (!sampledIds.subarray(logitStart, logitStart + logitRows).includes(noNumbers)) {
    return new SwiftKVError(
      'ERR_NO_TOKEN_ALLOWED',
      `Expected a token to choose from but allowedTokenIds, tokenMask, logitBias and minTokens leave none ` +
        `(output token ${sequence.numOutput}); allow one, or end the answer with maxTokens`,
    );
  }
  const where = sequence.scoring !== null ? 'logits of a scored text' : `output token ${sequence.numOutput}`;
  return new SwiftKVError(
    'ERR_NUMERIC',
    `Expected finite logits but the model produced NaN or infinite ones (${where}); other requests are not affected. ` +
      'Check the weights for NaN, or load with dtype f32',
  );
}
