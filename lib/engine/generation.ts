// What `engine.generate` returns: nothing happens until it is consumed, as a stream of parts or as one result.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { GenerateRequest } from './generate-options.ts';
import { type GenerationHost, Run } from './run.ts';
import type { GeneratePart, GenerateResult } from './types.ts';

/**
 * A lazy generation. Consume it once: iterate it (`break` ends it quietly and frees what it holds), or call `result()` or
 * `results()`. Text waits for a slow reader as token ids, `maxBufferedTokens` of each answer at most; then its request
 * pauses, and the others go on.
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
    return new PartIterator(new Run(this.#host, this.#request, true));
  }

  /**
   * The whole answer to a request for one.
   * @throws every error of the request: ERR_INVALID_ARGUMENT (also for `n` > 1), ERR_ABORTED, ERR_DISPOSED, ERR_DRAINING,
   *   ERR_CONTEXT_LENGTH, ERR_CACHE_TOO_SMALL, ERR_QUEUE_FULL, ERR_QUEUE_TIMEOUT, ERR_NO_TOKENIZER, ERR_CHAT_TEMPLATE,
   *   ERR_NUMERIC, ERR_NO_TOKEN_ALLOWED
   */
  async result(): Promise<GenerateResult> {
    if (!(this.#request instanceof SwiftKVError) && this.#request.n > 1) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected one answer but n is ${this.#request.n}; use results(), which gives all of them (generate)`,
      );
    }
    const [result] = await this.results();
    return result!;
  }

  /**
   * All `n` answers, by index, once the last has ended.
   * @throws as `result`: an error of one answer is an error of the request
   */
  async results(): Promise<GenerateResult[]> {
    this.#consume();
    const run = new Run(this.#host, this.#request, false);
    run.start();
    while (!run.finished) {
      if (run.error !== null) throw run.error;
      await run.nextUpdate();
    }
    return run.results();
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

/** Starts with the first `next`. After the last finish part, a `return` or an error, there is nothing more. */
class PartIterator implements AsyncIterator<GeneratePart, undefined, undefined> {
  private readonly run: Run;
  private state: 'new' | 'open' | 'done' = 'new';
  /** Calls of `next` are answered in order. */
  private last: Promise<unknown> = Promise.resolve();

  constructor(run: Run) {
    this.run = run;
  }

  next(): Promise<IteratorResult<GeneratePart, undefined>> {
    // At once, as `results` does: requests come in the order in which they are consumed.
    if (this.state === 'new') {
      this.state = 'open';
      this.run.start();
    }
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
    while (this.state === 'open') {
      if (run.error !== null) {
        this.state = 'done';
        throw run.error;
      }
      const part = this.take();
      if (part !== null) return { done: false, value: part };
      if (run.finished) {
        this.state = 'done';
        break;
      }
      await run.nextUpdate();
    }
    return { done: true, value: undefined };
  }

  private take(): GeneratePart | null {
    try {
      return this.run.take();
    } catch (error) {
      // A decoder that throws: nobody reads on, so the request would run for nobody.
      this.state = 'done';
      const failure = toSwiftKVError(error);
      this.run.fail(failure);
      throw failure;
    }
  }
}
