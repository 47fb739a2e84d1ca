// The engine: a loaded model, its tokenizer, and the loop that runs requests together.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import { allocateFloats } from '../machine/memory.ts';
import { type LoadedModel, loadModel } from '../model/load.ts';
import { greedy, samplingDefaults } from '../sampling/options.ts';
import { loadTokenizer } from '../tokenizer/load.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { ActiveRequests } from './active-requests.ts';
import { BlockManager } from './block-manager.ts';
import { EngineLoop } from './engine-loop.ts';
import { checkEngineOptions, type ServiceOptions } from './engine-options.ts';
import { EventLoopLagMonitor } from './event-loop-lag.ts';
import { checkGenerateOptions, type GenerateRequest } from './generate-options.ts';
import { Generation } from './generation.ts';
import { Job, type JobListener } from './job.ts';
import { buildJobs } from './jobs.ts';
import { abortError, type GenerationHost } from './run.ts';
import { Scheduler } from './scheduler.ts';
import { Sequence } from './sequence.ts';
import { type EngineStats, engineStats } from './stats.ts';
import type {
  ChatMessage,
  DrainResult,
  EngineInfo,
  EngineMemory,
  EngineOptions,
  GenerateOptions,
  Logits,
  SamplingDefaults,
  TokenIds,
} from './types.ts';
import {
  checkBoolean,
  checkOptions,
  checkSignal,
  checkString,
  checkTimeout,
  checkTokenIds,
  expected,
} from './validate.ts';

/** Numbers that `engine.logits` hands over at most: 256 MiB. */
const maxLogitValues = 2 ** 26;
/** Numbers that one step copies out for it on the JavaScript thread: 4 MiB, about a millisecond. */
const maxScoredValues = 2 ** 20;

/** The model as the engine uses it. */
export type EngineModel = Omit<LoadedModel, 'logits'>;

/** What `Engine.load` puts together; tests put a fake model here. */
export interface EngineParts {
  model: EngineModel;
  tokenizer: Tokenizer | null;
  defaults: SamplingDefaults;
  service: ServiceOptions;
}

export class Engine implements AsyncDisposable {
  /**
   * Loads a model folder (Hugging Face layout) and everything a request needs. Files are validated before memory is
   * allocated.
   * @throws ERR_INVALID_ARGUMENT, ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_OUT_OF_MEMORY,
   *   ERR_UNSUPPORTED, ERR_ABORTED, ERR_IO, ERR_NATIVE_LOAD
   */
  static async load(source: string, options: EngineOptions = {}): Promise<Engine> {
    if (typeof source !== 'string' || source === '') {
      throw expected('source', 'the path of a model folder', source, 'Engine.load');
    }
    const { model: modelOptions, service } = checkEngineOptions(options);
    const { signal } = modelOptions;
    if (signal?.aborted) throw abortError(signal, 'Engine.load');
    const model = await loadModel(source, modelOptions);
    try {
      const folders = model.tokenizerDir === null ? [] : [model.tokenizerDir];
      const tokenizer = await loadTokenizer(folders);
      const defaults = samplingDefaults(model.generationConfig);
      if (signal?.aborted) {
        await tokenizer?.dispose();
        throw abortError(signal, 'Engine.load');
      }
      return new Engine({ model, tokenizer, defaults, service });
    } catch (error) {
      await model.dispose();
      throw toSwiftKVError(error);
    }
  }

  readonly #parts: EngineParts;
  readonly #blocks: BlockManager;
  readonly #scheduler: Scheduler;
  readonly #loop: EngineLoop;
  readonly #eventLoopLag = new EventLoopLagMonitor();
  readonly #eosIds: ReadonlySet<number>;
  readonly #active = new ActiveRequests();
  readonly #host: GenerationHost;
  readonly #maxLogitPositions: number;
  #numRequests = 0;
  #disposed: Promise<void> | null = null;

  /** @internal Use `Engine.load`. */
  constructor(parts: EngineParts) {
    const { model, service } = parts;
    const { config, capacity } = model;
    this.#parts = parts;
    this.#eosIds = new Set(config.eosTokenIds);
    this.#maxLogitPositions = Math.min(model.maxModelLen, Math.floor(maxLogitValues / config.vocabSize));
    // Also without prefix caching: the answers to one prompt share it.
    this.#blocks = new BlockManager(model.numBlocks, { prefixCaching: true });
    this.#scheduler = new Scheduler(
      config,
      {
        maxRows: capacity.maxRows,
        maxSeqs: capacity.maxSeqs,
        maxLogitRows: capacity.maxLogitRows,
        maxScoredRows: Math.min(capacity.maxLogitRows, Math.max(1, Math.floor(maxScoredValues / config.vocabSize))),
        maxWaiting: service.maxQueued,
        maxModelLen: model.maxModelLen,
        maxStepMs: service.maxStepMs,
      },
      this.#blocks,
    );
    this.#loop = new EngineLoop(model, this.#scheduler);
    this.#host = {
      tokenizer: parts.tokenizer,
      enter: (request) => {
        this.#checkOpen();
        this.#active.enter(request);
      },
      leave: (request) => this.#active.leave(request),
      encode: (request) => this.#encode(request),
      submit: (request, prompt, listeners) => this.#submit(request, prompt, listeners),
      abort: (job) => this.#loop.abort(job),
      finish: (job) => this.#loop.finish(job),
      pause: (job) => this.#loop.pause(job),
      resume: (job) => this.#loop.resume(job),
    };
  }

  /**
   * Continues a text, a conversation or token ids. Starts nothing until the result is consumed, and never throws:
   * whatever is wrong with the request is reported to its consumer.
   */
  generate(options: GenerateOptions): Generation {
    let request: GenerateRequest | SwiftKVError;
    try {
      request = checkGenerateOptions(options, this.#parts.model.config, this.#parts.defaults, this.#eosIds);
      request.queueTimeoutMs ??= this.#parts.service.queueTimeoutMs;
    } catch (error) {
      request = toSwiftKVError(error);
    }
    return new Generation(this.#host, request);
  }

  /**
   * Logits at every position, every layer run on every row. Runs in steps among other requests.
   * @throws ERR_INVALID_ARGUMENT (more than `info().maxLogitPositions` ids), ERR_CACHE_TOO_SMALL, ERR_QUEUE_FULL,
   *   ERR_NUMERIC, ERR_ABORTED, ERR_DISPOSED, ERR_DRAINING
   */
  async logits(tokenIds: TokenIds, options: { signal?: AbortSignal | undefined } = {}): Promise<Logits> {
    const { config } = this.#parts.model;
    const { signal: given } = checkOptions(options, ['signal'], 'logits');
    const signal = given === undefined ? null : checkSignal('signal', given, 'logits');
    const prompt = checkTokenIds('tokenIds', tokenIds, 'logits', config.vocabSize);
    const limit = this.#maxLogitPositions;
    if (prompt.length === 0 || prompt.length > limit) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected tokenIds to be 1 to ${limit} token ids, whose logits take ${limit * config.vocabSize * 4} bytes, ` +
          `but received ${prompt.length} (logits)`,
      );
    }
    this.#checkOpen();
    if (signal?.aborted) throw abortError(signal, 'logits');
    const data = allocateFloats(prompt.length * config.vocabSize, 'logits');
    const sequence = new Sequence({ prompt, maxTokens: 0, stopIds: new Set(), scoring: 'logits' });
    await new Promise<void>((resolve, reject) => {
      const settle = (error: SwiftKVError | null) => {
        signal?.removeEventListener('abort', onAbort);
        this.#active.leave(entry);
        this.#loop.abort(job);
        if (error === null) resolve();
        else reject(error);
      };
      const onAbort = () => settle(abortError(signal!, 'logits'));
      const entry = { fail: settle };
      const job = new Job(sequence, greedy, { onUpdate: () => settle(null), onError: settle }, { logits: data });
      this.#active.enter(entry);
      try {
        this.#loop.submit(job);
      } catch (error) {
        settle(toSwiftKVError(error));
        return;
      }
      signal?.addEventListener('abort', onAbort, { once: true });
    });
    return { rows: prompt.length, vocabSize: config.vocabSize, data };
  }

  /**
   * Token ids of a text.
   * @param options.addSpecialTokens add what the tokenizer adds to a prompt (usually a BOS); default true
   * @throws ERR_NO_TOKENIZER, ERR_INVALID_ARGUMENT, ERR_DISPOSED
   */
  async tokenize(text: string, options: { addSpecialTokens?: boolean | undefined } = {}): Promise<number[]> {
    const { addSpecialTokens = true } = checkOptions(options, ['addSpecialTokens'], 'tokenize');
    const add = checkBoolean('addSpecialTokens', addSpecialTokens, 'tokenize');
    checkString('text', text, 'tokenize');
    this.#checkOpen();
    return Array.from(await this.#needTokenizer().encode(text, { addSpecialTokens: add }));
  }

  /**
   * The text of token ids.
   * @param options.skipSpecialTokens leave special tokens out; default true
   * @throws ERR_NO_TOKENIZER, ERR_INVALID_ARGUMENT, ERR_DISPOSED
   */
  async detokenize(tokenIds: TokenIds, options: { skipSpecialTokens?: boolean | undefined } = {}): Promise<string> {
    const { skipSpecialTokens = true } = checkOptions(options, ['skipSpecialTokens'], 'detokenize');
    const skip = checkBoolean('skipSpecialTokens', skipSpecialTokens, 'detokenize');
    const ids = checkTokenIds('tokenIds', tokenIds, 'detokenize', this.#parts.model.config.vocabSize);
    this.#checkOpen();
    return this.#needTokenizer().decode(ids, { skipSpecialTokens: skip });
  }

  /** What was loaded, every choice made at load, and what the engine is doing now. */
  info(): EngineInfo {
    const { model, tokenizer, defaults, service } = this.#parts;
    const { cost } = this.#scheduler;
    return {
      ...model.info(),
      tokenizer: tokenizer !== null,
      chatTemplate: tokenizer?.hasChatTemplate ?? false,
      ...service,
      maxLogitPositions: this.#maxLogitPositions,
      defaults: { ...defaults },
      load: {
        running: this.#scheduler.numRunning,
        waiting: this.#scheduler.numWaiting,
        paused: this.#scheduler.numPaused,
        freeBlocks: this.#blocks.numFree,
        cachedBlocks: this.#blocks.numCached,
        steps: this.#loop.observer.steps,
        preemptions: this.#scheduler.numPreemptions,
        fixedMs: cost.state.fixedMs,
        msPerRowLayer: cost.state.msPerUnit,
      },
    };
  }

  /**
   * What the engine is doing now, and sums since it was loaded. Cheap; the first call starts the measurement of the event
   * loop's lag.
   */
  stats(): EngineStats {
    return engineStats({
      observer: this.#loop.observer,
      scheduler: this.#scheduler,
      blocks: this.#blocks,
      eventLoopLag: this.#eventLoopLag.read(),
      memory: this.memory(),
    });
  }

  /**
   * What native code holds now, in bytes, counted where it is allocated. All of `engine` is 0 once `dispose` has
   * resolved. JavaScript's heap, code and thread stacks are not in it.
   */
  memory(): EngineMemory {
    const { model, tokenizer } = this.#parts;
    return { ...model.memory(), tokenizerWorkers: tokenizer?.numWorkers ?? 0 };
  }

  /** Requests that come from now on share nothing with what has been computed so far. At any time. */
  resetPrefixCache(): void {
    this.#blocks.resetPrefixCache();
  }

  /**
   * Takes no new requests from now on (ERR_DRAINING) and resolves when the last of those that it has ends; `dispose` is
   * still to be called. A stream that nobody reads on keeps its request from ending: give a timeout.
   * @param options.timeoutMs after so many milliseconds, requests that have not ended reject with ERR_ABORTED
   * @throws ERR_INVALID_ARGUMENT
   */
  async drain(options: { timeoutMs?: number | undefined } = {}): Promise<DrainResult> {
    const { timeoutMs } = checkOptions(options, ['timeoutMs'], 'drain');
    return this.#active.drain(timeoutMs === undefined ? null : checkTimeout('timeoutMs', timeoutMs, 'drain'));
  }

  /**
   * Frees everything. Requests that have not ended reject with ERR_DISPOSED at once; the step in flight stops after the
   * op it is in, and memory is freed when the promise resolves. Idempotent, and safe at any time.
   */
  dispose(): Promise<void> {
    this.#disposed ??= this.#shutDown();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #shutDown(): Promise<void> {
    const error = disposedError();
    this.#active.failAll(error);
    this.#eventLoopLag.stop();
    await this.#loop.close(error);
    await this.#parts.tokenizer?.dispose();
    await this.#parts.model.dispose();
  }

  #checkOpen(): void {
    if (this.#disposed !== null) throw disposedError();
  }

  #needTokenizer(instead = 'tokenIds'): Tokenizer {
    const { tokenizer } = this.#parts;
    if (tokenizer !== null) return tokenizer;
    throw new SwiftKVError(
      'ERR_NO_TOKENIZER',
      `Expected ${instead} because the model folder has no tokenizer.json but received text; add one or pass token ids`,
    );
  }

  #encode(request: GenerateRequest): Promise<Int32Array> | Int32Array {
    this.#checkOpen();
    const { input } = request;
    if (input.type === 'tokenIds') return input.tokenIds;
    if (input.type === 'prompt') return this.#encodeText(input.text, true);
    return this.#encodeChat(input.messages);
  }

  async #encodeChat(messages: readonly ChatMessage[]): Promise<Int32Array> {
    const tokenizer = this.#needTokenizer();
    for (const { content } of messages) this.#checkLength(tokenizer, content ?? '');
    const text = await tokenizer.renderChat(messages);
    this.#checkOpen();
    return this.#encodeText(text, false);
  }

  async #encodeText(text: string, addSpecialTokens: boolean): Promise<Int32Array> {
    const tokenizer = this.#needTokenizer();
    this.#checkLength(tokenizer, text);
    const { vocabSize } = this.#parts.model.config;
    const ids = await tokenizer.encode(text, { addSpecialTokens });
    const beyond = ids.find((id) => id >= vocabSize);
    if (beyond !== undefined) {
      throw new SwiftKVError(
        'ERR_MODEL_INVALID',
        `Expected token ids below ${vocabSize} (vocab_size of config.json) but the tokenizer gave ${beyond}: ` +
          'tokenizer.json belongs to another model (generate)',
      );
    }
    if (ids.length === 0) throw expected('prompt', 'a text of at least one token', text, 'generate');
    return ids;
  }

  /** Refuses a text that cannot fit before any work is done for it. */
  #checkLength(tokenizer: Tokenizer, text: string): void {
    const { maxModelLen } = this.#parts.model;
    const least = tokenizer.minTokens(text);
    if (least >= maxModelLen) throw contextError(maxModelLen, `a prompt of at least ${least}`);
  }

  #submit(request: GenerateRequest, prompt: Int32Array, listeners: readonly JobListener[]): Job[] {
    const { model, service } = this.#parts;
    const { maxModelLen, numBlocks, capacity } = model;
    if (request.stops.length > 0) this.#needTokenizer('tokenIds and no stop strings');
    if (prompt.length >= maxModelLen && request.maxTokens !== 0) {
      throw contextError(maxModelLen, `a prompt of ${prompt.length} and an answer`);
    }
    const limits = { maxModelLen, numBlocks, capacity, prefixCaching: service.prefixCaching };
    const jobs = buildJobs(request, prompt, listeners, limits, this.#numRequests++);
    this.#loop.submit(...jobs);
    return jobs;
  }
}

function contextError(maxModelLen: number, received: string): SwiftKVError {
  return new SwiftKVError(
    'ERR_CONTEXT_LENGTH',
    `Expected at most ${maxModelLen} tokens (maxModelLen) but received ${received}; shorten the prompt, or load ` +
      'with a larger maxModelLen (generate)',
  );
}

function disposedError(): SwiftKVError {
  return new SwiftKVError('ERR_DISPOSED', 'The engine has been disposed of; load the model again with Engine.load');
}
