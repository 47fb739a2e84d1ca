// A started generation: waits for its job, and turns tokens into parts when someone reads.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { AnswerText } from './answer-text.ts';
import type { GenerateRequest } from './generate-options.ts';
import type { Job, JobListener } from './job.ts';
import { jobTimings, jobUsage } from './measures.ts';
import type { FinishPart, GenerateResult, TextPart } from './types.ts';

/** What a generation needs of its engine. */
export interface GenerationHost {
  readonly tokenizer: Tokenizer | null;
  /** Ids of the prompt. @throws ERR_NO_TOKENIZER, ERR_CHAT_TEMPLATE, ERR_CONTEXT_LENGTH, ... */
  encode(request: GenerateRequest): Promise<Int32Array> | Int32Array;
  /** Queues the work. @throws ERR_CONTEXT_LENGTH, ERR_CACHE_TOO_SMALL, ERR_DISPOSED */
  submit(request: GenerateRequest, prompt: Int32Array, listener: JobListener): Job;
  abort(job: Job): void;
  /** Ends a job whose answer is complete. */
  finish(job: Job): void;
  /** Generations that `dispose` has to end. */
  readonly active: Set<{ fail(error: SwiftKVError): void }>;
}

export class Run implements JobListener {
  private readonly host: GenerationHost;
  private readonly request: GenerateRequest | SwiftKVError;
  private readonly text: AnswerText | null;
  private job: Job | null = null;
  error: SwiftKVError | null = null;
  private submittedAt = 0;
  /** Output tokens that have been handed over. */
  private taken = 0;
  private waiters: (() => void)[] = [];
  private readonly onAbort = () => this.fail(abortError(this.signal!, 'generate'));

  constructor(host: GenerationHost, request: GenerateRequest | SwiftKVError) {
    this.host = host;
    this.request = request;
    const { tokenizer } = host;
    if (tokenizer === null || request instanceof SwiftKVError) this.text = null;
    else this.text = new AnswerText(tokenizer.streamDecoder({ skipSpecialTokens: request.skipSpecialTokens }), request);
  }

  get finished(): boolean {
    return this.job?.sequence.state === 'finished';
  }

  private get signal(): AbortSignal | null {
    return this.request instanceof SwiftKVError ? null : this.request.signal;
  }

  start(): void {
    this.submittedAt = performance.now();
    const { request, signal } = this;
    if (request instanceof SwiftKVError) this.fail(request);
    else if (signal?.aborted) this.fail(abortError(signal, 'generate'));
    else {
      signal?.addEventListener('abort', this.onAbort, { once: true });
      this.host.active.add(this);
      try {
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
  }

  private submit(request: GenerateRequest, prompt: Int32Array): void {
    if (this.error !== null) return;
    try {
      this.job = this.host.submit(request, prompt, this);
    } catch (error) {
      this.fail(toSwiftKVError(error));
    }
  }

  /** Resolves when there is something new to look at: tokens, the end, or an error. */
  nextUpdate(): Promise<void> {
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  onUpdate(): void {
    if (this.text?.eager) this.lookForStop(this.text, this.job!);
    if (this.finished) this.detach();
    this.wake();
  }

  onError(error: SwiftKVError): void {
    this.fail(error);
  }

  /** Ends the request with an error, unless it has ended: at once for the reader, within a step for the engine. */
  fail(error: SwiftKVError): void {
    if (this.error !== null || this.finished) return;
    this.error = error;
    this.detach();
    if (this.job !== null) this.host.abort(this.job);
    this.wake();
  }

  /** Tokens since the last call, as a part; null while there are none, or while their text is half a character. */
  takeText(): TextPart | null {
    if (this.job === null) return null;
    const { sequence, logprobs } = this.job;
    const outputs = sequence.numOutput;
    if (this.taken === outputs) return null;
    let text = '';
    if (this.text !== null) {
      if (!this.text.eager) this.text.advance(sequence);
      text = this.text.take();
      if (text === '' && !this.finished) return null;
    }
    const from = this.taken;
    this.taken = outputs;
    const { promptLength, length } = sequence;
    const tokenIds = Array.from(sequence.tokens.subarray(promptLength + from, length));
    return { type: 'text', text, tokenIds, logprobs: logprobs?.read(from, tokenIds) ?? null };
  }

  finishPart(): FinishPart {
    const job = this.job!;
    const { finishReason, stopReason } = job.sequence;
    return {
      type: 'finish',
      finishReason: finishReason!,
      stopReason,
      seed: (this.request as GenerateRequest).sampling.seed,
      usage: jobUsage(job),
      timings: jobTimings(job, this.submittedAt),
    };
  }

  /** Everything at once, when it has finished and nothing has been taken. */
  result(): GenerateResult {
    const job = this.job!;
    const part = this.takeText();
    const { type: _, ...finish } = this.finishPart();
    return {
      text: part?.text ?? '',
      tokenIds: part?.tokenIds ?? [],
      logprobs: part?.logprobs ?? (job.logprobs === null ? null : []),
      promptLogprobs: promptLogprobs(job),
      ...finish,
    };
  }

  /** Tokens after a stop string are not part of the answer: one more may be on its way. */
  private lookForStop(text: AnswerText, job: Job): void {
    try {
      const stop = text.advance(job.sequence);
      if (stop === null) return;
      job.sequence.finishReason = 'stop';
      job.sequence.stopReason = stop;
      this.host.finish(job);
    } catch (error) {
      // The loop calls this for all requests: a decoder that throws fails its own.
      this.fail(toSwiftKVError(error));
    }
  }

  private detach(): void {
    this.signal?.removeEventListener('abort', this.onAbort);
    this.host.active.delete(this);
  }

  private wake(): void {
    const waiters = this.waiters;
    if (waiters.length === 0) return;
    this.waiters = [];
    for (const resolve of waiters) resolve();
  }
}

function promptLogprobs({ promptLogprobs: store, sequence }: Job): GenerateResult['promptLogprobs'] {
  if (store === null) return null;
  return [null, ...store.read(1, sequence.tokens.subarray(1, sequence.promptLength))];
}

export function abortError(signal: AbortSignal, where: string): SwiftKVError {
  return new SwiftKVError('ERR_ABORTED', `The signal was aborted (${where})`, { cause: signal.reason });
}
