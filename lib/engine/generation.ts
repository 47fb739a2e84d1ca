// What `engine.generate` returns: nothing happens until it is consumed, as a stream of parts or as one result.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { StreamDecoder, Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateRequest } from './generate-options.ts';
import type { Job, JobListener } from './job.ts';
import { jobTimings, jobUsage } from './measures.ts';
import type { FinishPart, GeneratePart, GenerateResult, TextPart } from './types.ts';

/** What a generation needs of its engine. */
export interface GenerationHost {
  readonly tokenizer: Tokenizer | null;
  /** Ids of the prompt. @throws ERR_NO_TOKENIZER, ERR_CHAT_TEMPLATE, ERR_CONTEXT_LENGTH, ... */
  encode(request: GenerateRequest): Promise<Int32Array> | Int32Array;
  /** Queues the work. @throws ERR_CONTEXT_LENGTH, ERR_CACHE_TOO_SMALL, ERR_DISPOSED */
  submit(request: GenerateRequest, prompt: Int32Array, listener: JobListener): Job;
  abort(job: Job): void;
  /** Generations that `dispose` has to end. */
  readonly active: Set<{ fail(error: SwiftKVError): void }>;
}

/**
 * A lazy generation. Consume it once: iterate it (`break` ends it quietly and frees what it holds), or call `result()`.
 * Text waits for a slow reader as token ids, so reading slowly never holds up other requests.
 */
export class Generation implements AsyncIterable<GeneratePart> {
  /** Takes a request, or the reason why there is none: it is reported on consumption. */
  constructor(host: GenerationHost, request: GenerateRequest | SwiftKVError) {
    this.#host = host;
    this.#request = request;
  }

  readonly #host: GenerationHost;
  readonly #request: GenerateRequest | SwiftKVError;
  #consumed = false;

  /** @throws ERR_INVALID_ARGUMENT on second consumption; the iterator's `next` rejects with every other error */
  [Symbol.asyncIterator](): AsyncIterator<GeneratePart, undefined, undefined> {
    this.#consume();
    return new PartIterator(new Run(this.#host, this.#request));
  }

  /**
   * The whole answer.
   * @throws every error of the request: ERR_INVALID_ARGUMENT, ERR_ABORTED, ERR_DISPOSED, ERR_CONTEXT_LENGTH,
   *   ERR_CACHE_TOO_SMALL, ERR_NO_TOKENIZER, ERR_CHAT_TEMPLATE, ERR_NUMERIC
   */
  async result(): Promise<GenerateResult> {
    this.#consume();
    const run = new Run(this.#host, this.#request);
    run.start();
    while (!run.finished) {
      if (run.error !== null) throw run.error;
      await run.nextUpdate();
    }
    const text = run.takeText();
    const { finishReason, seed, usage, timings } = run.finishPart();
    return { text: text?.text ?? '', tokenIds: text?.tokenIds ?? [], finishReason, seed, usage, timings };
  }

  #consume(): void {
    if (this.#consumed) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        'Expected a generation to be consumed once but received a second reader; call engine.generate again (generate)',
      );
    }
    this.#consumed = true;
  }
}

/** A started generation: waits for its job, and turns tokens into parts when someone reads. */
class Run implements JobListener {
  private readonly host: GenerationHost;
  private readonly request: GenerateRequest | SwiftKVError;
  private readonly decoder: StreamDecoder | null;
  private job: Job | null = null;
  error: SwiftKVError | null = null;
  private submittedAt = 0;
  /** Output tokens that have been decoded, and those of them that have been handed over. */
  private decoded = 0;
  private taken = 0;
  private waiters: (() => void)[] = [];
  private readonly onAbort = () => this.fail(abortError(this.signal!, 'generate'));

  constructor(host: GenerationHost, request: GenerateRequest | SwiftKVError) {
    this.host = host;
    this.request = request;
    this.decoder = host.tokenizer?.streamDecoder() ?? null;
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
    const { sequence } = this.job;
    const outputs = sequence.numOutput;
    if (this.taken === outputs) return null;
    let text = '';
    if (this.decoder !== null) {
      // The token that stopped it is no part of the text.
      const spoken = sequence.finishReason === 'stop' ? outputs - 1 : outputs;
      for (; this.decoded < spoken; this.decoded++) {
        text += this.decoder.push(sequence.tokens[sequence.promptLength + this.decoded]!);
      }
      if (this.finished) text += this.decoder.end();
      else if (text === '') return null;
    }
    const from = sequence.promptLength + this.taken;
    this.taken = outputs;
    return { type: 'text', text, tokenIds: Array.from(sequence.tokens.subarray(from, sequence.length)) };
  }

  finishPart(): FinishPart {
    const job = this.job!;
    const { seed } = (this.request as GenerateRequest).sampling;
    const timings = jobTimings(job, this.submittedAt);
    return { type: 'finish', finishReason: job.sequence.finishReason!, seed, usage: jobUsage(job), timings };
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

/** Starts with the first `next`. After the finish part, a `return` or an error, there is nothing more. */
class PartIterator implements AsyncIterator<GeneratePart, undefined, undefined> {
  private readonly run: Run;
  private state: 'new' | 'open' | 'done' = 'new';
  /** Calls of `next` are answered in order. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(run: Run) {
    this.run = run;
  }

  next(): Promise<IteratorResult<GeneratePart, undefined>> {
    const turn = this.last.then(() => this.advance());
    this.last = turn.catch(() => {});
    return turn;
  }

  async return(): Promise<IteratorResult<GeneratePart, undefined>> {
    if (this.state !== 'done') {
      this.state = 'done';
      this.run.fail(new SwiftKVError('ERR_ABORTED', 'The reader left the stream (generate)'));
    }
    return { done: true, value: undefined };
  }

  private async advance(): Promise<IteratorResult<GeneratePart, undefined>> {
    const { run } = this;
    if (this.state === 'new') {
      this.state = 'open';
      run.start();
    }
    while (this.state === 'open') {
      if (run.error !== null) {
        this.state = 'done';
        throw run.error;
      }
      const part = run.takeText();
      if (part !== null) return { done: false, value: part };
      if (run.finished) {
        this.state = 'done';
        return { done: false, value: run.finishPart() };
      }
      await run.nextUpdate();
    }
    return { done: true, value: undefined };
  }
}

export function abortError(signal: AbortSignal, where: string): SwiftKVError {
  return new SwiftKVError('ERR_ABORTED', `The signal was aborted (${where})`, { cause: signal.reason });
}
