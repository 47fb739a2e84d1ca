// A started generation: waits for its jobs, and turns tokens into parts when someone reads.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { ActiveRequest } from './active-requests.ts';
import { Answer, type AnswerHost } from './answer.ts';
import type { GenerateRequest } from './generate-options.ts';
import type { Job, JobListener } from './job.ts';
import type { GeneratePart, GenerateResult, TokenLogprob } from './types.ts';

/** What a generation needs of its engine. */
export interface GenerationHost {
  readonly tokenizer: Tokenizer | null;
  /** A request begins: `dispose` and `drain` have to end it, until `leave`. @throws ERR_DISPOSED, ERR_DRAINING */
  enter(request: ActiveRequest): void;
  leave(request: ActiveRequest): void;
  /** Ids of the prompt. @throws ERR_NO_TOKENIZER, ERR_CHAT_TEMPLATE, ERR_CONTEXT_LENGTH, ... */
  encode(request: GenerateRequest): Promise<Int32Array> | Int32Array;
  /** Queues the work, a job for each listener. @throws ERR_CONTEXT_LENGTH, ERR_CACHE_TOO_SMALL, ERR_QUEUE_FULL */
  submit(request: GenerateRequest, prompt: Int32Array, listeners: readonly JobListener[]): Job[];
  abort(job: Job): void;
  /** Ends a job whose answer is complete. */
  finish(job: Job): void;
  pause(job: Job): void;
  resume(job: Job): void;
}

export class Run implements AnswerHost {
  readonly bound: number | null;
  submittedAt = 0;
  error: SwiftKVError | null = null;

  private readonly host: GenerationHost;
  private readonly request: GenerateRequest | SwiftKVError;
  private readonly answers: Answer[] = [];
  /** The answer that is looked at first for the next part. */
  private turn = 0;
  private entered = false;
  private queueTimer: NodeJS.Timeout | null = null;
  private waiters: (() => void)[] = [];
  private readonly onAbort = () => this.fail(abortError(this.signal!, 'generate'));

  /** @param streamed parts are taken as they come, so that those which wait are bounded */
  constructor(host: GenerationHost, request: GenerateRequest | SwiftKVError, streamed: boolean) {
    this.host = host;
    this.request = request;
    this.bound = null;
    if (request instanceof SwiftKVError) return;
    if (streamed) this.bound = request.maxBufferedTokens;
    for (let i = 0; i < request.n; i++) this.answers.push(new Answer(this, request, i, host.tokenizer));
  }

  get finished(): boolean {
    return this.answers.length > 0 && this.answers.every((answer) => answer.finished);
  }

  private get signal(): AbortSignal | null {
    return this.request instanceof SwiftKVError ? null : this.request.signal;
  }

  start(): void {
    this.submittedAt = performance.now();
    const { request, signal } = this;
    try {
      if (request instanceof SwiftKVError) throw request;
      if (signal?.aborted) throw abortError(signal, 'generate');
      this.host.enter(this);
      this.entered = true;
      signal?.addEventListener('abort', this.onAbort, { once: true });
      const prompt = this.host.encode(request);
      if (prompt instanceof Int32Array) this.submit(request, prompt);
      else
        prompt.then(
          (ids) => this.submit(request, ids),
          (error) => this.fail(toSwiftKVError(error)),
        );
    } catch (error) {
      this.fail(toSwiftKVError(error));
    }
  }

  private submit(request: GenerateRequest, prompt: Int32Array): void {
    if (this.error !== null) return;
    try {
      const jobs = this.host.submit(request, prompt, this.answers);
      for (const [i, answer] of this.answers.entries()) answer.job = jobs[i]!;
    } catch (error) {
      this.fail(toSwiftKVError(error));
      return;
    }
    const { queueTimeoutMs } = request;
    if (queueTimeoutMs === null) return;
    this.queueTimer = setTimeout(() => this.endWaiting(queueTimeoutMs), queueTimeoutMs);
    // Work in the queue keeps the process alive by itself.
    this.queueTimer.unref();
  }

  private endWaiting(queueTimeoutMs: number): void {
    if (this.answers.some(({ job }) => !Number.isNaN(job!.startedAt))) return;
    this.fail(
      new SwiftKVError(
        'ERR_QUEUE_TIMEOUT',
        `Expected the request to start within ${queueTimeoutMs} ms (queueTimeoutMs) but it still waits for others; ` +
          'try again later, or allow more time (generate)',
      ),
    );
  }

  /** Resolves when there is something new to look at: tokens, the end, or an error. */
  nextUpdate(): Promise<void> {
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  answerUpdated(): void {
    if (this.finished) this.detach();
    // Whoever wants everything at once is woken once.
    else if (this.bound === null) return;
    this.wake();
  }

  finish(job: Job): void {
    this.host.finish(job);
  }

  pause(job: Job): void {
    this.host.pause(job);
  }

  resume(job: Job): void {
    this.host.resume(job);
  }

  /** Ends the request with an error, unless it has ended: at once for the reader, within a step for the engine. */
  fail(error: SwiftKVError): void {
    if (this.error !== null || this.finished) return;
    this.error = error;
    this.detach();
    for (const { job } of this.answers) if (job !== null) this.host.abort(job);
    this.wake();
  }

  /** The next part of any answer; null while there is none. */
  take(): GeneratePart | null {
    for (let i = 0; i < this.answers.length; i++) {
      const at = (this.turn + i) % this.answers.length;
      const part = this.answers[at]!.take();
      if (part === null) continue;
      this.turn = at + 1;
      return part;
    }
    return null;
  }

  /** Everything at once, when all have finished and nothing has been taken. */
  results(): GenerateResult[] {
    const promptLogprobs = promptLogprobsOf(this.answers[0]!.job!);
    return this.answers.map((answer) => answer.result(promptLogprobs));
  }

  private detach(): void {
    this.signal?.removeEventListener('abort', this.onAbort);
    if (this.queueTimer !== null) clearTimeout(this.queueTimer);
    if (this.entered) this.host.leave(this);
    this.entered = false;
  }

  private wake(): void {
    const waiters = this.waiters;
    if (waiters.length === 0) return;
    this.waiters = [];
    for (const resolve of waiters) resolve();
  }
}

function promptLogprobsOf({ promptLogprobs: store, sequence }: Job): (TokenLogprob | null)[] | null {
  if (store === null) return null;
  return [null, ...store.read(1, sequence.tokens.subarray(1, sequence.promptLength))];
}

export function abortError(signal: AbortSignal, where: string): SwiftKVError {
  return new SwiftKVError('ERR_ABORTED', `The signal was aborted (${where})`, { cause: signal.reason });
}
