// Chat templates: Jinja, rendered with what transformers gives them, on a thread of its own that can be stopped.

import { Worker } from 'node:worker_threads';
import { SwiftKVError } from '../errors.ts';
import { messagesLength } from './chat-message.ts';
import type { RenderReply, RenderRequest, TemplateWorkerData } from './template-worker.ts';
import type { ChatMessage } from './tokenizer.ts';

export interface ChatTemplateTokens {
  bosToken: string | null;
  eosToken: string | null;
}

export interface ChatTemplateLimits {
  /** How long one rendering may take, compiling the template included. */
  timeMs: number;
  /** UTF-16 units of the messages, of the result and of every string that the template builds on the way. */
  length: number;
  /** How far one rendering may grow its thread's heap. */
  heapBytes: number;
}

/** A rendering takes about a millisecond and a megabyte; the longest context that there is has about 2^22 characters. */
export const chatTemplateLimits: ChatTemplateLimits = { timeMs: 5000, length: 2 ** 22, heapBytes: 2 ** 27 };

/** The heap at which V8 itself ends the thread: above the limit on growth, so that one big allocation still fits. */
const workerHeapMb = 768;

/** Worker threads run compiled code only: from the TypeScript sources (tests) the built file beside them is used. */
function workerUrl(): URL {
  const fromSource = import.meta.url.endsWith('.ts');
  return new URL(fromSource ? '../../dist/tokenizer/template-worker.js' : './template-worker.js', import.meta.url);
}

interface Rendering {
  request: RenderRequest;
  resolve(text: string): void;
  reject(error: SwiftKVError): void;
}

/**
 * A model's chat template. A template is a program of the model's author and may loop, so it never runs on the calling
 * thread: one rendering at a time on a worker, which is ended when the time is up; the renderings behind it get a new
 * one.
 */
export class ChatTemplate {
  private readonly source: string;
  private readonly where: string;
  private readonly limits: ChatTemplateLimits;
  private readonly queue: Rendering[] = [];
  private worker: Worker | null = null;
  private ready = false;
  private timer: NodeJS.Timeout | undefined;
  private disposed = false;

  /** @param where the file the template comes from, for messages */
  constructor(source: string, where: string, limits = chatTemplateLimits) {
    this.source = source;
    this.where = where;
    this.limits = limits;
  }

  /**
   * @param messages plain data, as `plainMessages` makes it
   * @param generationPrompt whether the beginning of an answer follows them
   * @throws SwiftKVError ERR_CHAT_TEMPLATE, ERR_DISPOSED
   */
  async render(messages: readonly ChatMessage[], tokens: ChatTemplateTokens, generationPrompt = true): Promise<string> {
    const length = messagesLength(messages);
    if (length > this.limits.length) {
      throw this.failure(messages.length, `they have ${length} characters and the limit is ${this.limits.length}`);
    }
    if (this.disposed) throw disposedError();
    return new Promise((resolve, reject) => {
      this.queue.push({ request: { messages, generationPrompt, ...tokens }, resolve, reject });
      if (this.queue.length === 1) this.next();
    });
  }

  get running(): boolean {
    return this.worker !== null;
  }

  /** Ends the thread; renderings that have not ended reject with ERR_DISPOSED. Idempotent. */
  async dispose(): Promise<void> {
    this.disposed = true;
    const stopped = this.stop();
    for (const { reject } of this.queue.splice(0)) reject(disposedError());
    await stopped;
  }

  /** Hands the first of the queue to the worker. The clock starts when the worker can begin. */
  private next(): void {
    const [rendering] = this.queue;
    this.worker ??= this.start();
    if (rendering === undefined) {
      this.worker.unref();
      return;
    }
    this.worker.ref();
    if (!this.ready) return;
    this.worker.postMessage(rendering.request);
    this.timer = setTimeout(() => this.timeUp(), this.limits.timeMs);
  }

  private start(): Worker {
    const { source, limits } = this;
    const worker = new Worker(workerUrl(), {
      workerData: { source, limits } satisfies TemplateWorkerData,
      resourceLimits: { maxOldGenerationSizeMb: workerHeapMb },
    });
    worker.on('message', (reply: RenderReply) => {
      if (worker !== this.worker) return;
      if (reply.type === 'ready') this.ready = true;
      else this.settle(reply.type === 'text' ? reply.text : reply.reason, reply.type === 'text');
      this.next();
    });
    const died = (reason: string) => {
      if (worker !== this.worker) return;
      void this.stop();
      this.settle(`its thread ended: ${reason}`, false);
      if (this.queue.length > 0) this.next();
    };
    worker.on('error', (error) => died(error instanceof Error ? error.message : String(error)));
    worker.on('exit', (code) => died(`exit code ${code}`));
    return worker;
  }

  private timeUp(): void {
    void this.stop();
    this.settle(`it was stopped after ${this.limits.timeMs / 1000} s, so it probably loops`, false);
    if (this.queue.length > 0) this.next();
  }

  /** Ends the first of the queue with its text, or with the reason why there is none. */
  private settle(result: string, rendered: boolean): void {
    clearTimeout(this.timer);
    const rendering = this.queue.shift();
    if (rendering === undefined) return;
    if (rendered) rendering.resolve(result);
    else rendering.reject(this.failure(rendering.request.messages.length, result));
  }

  private async stop(): Promise<void> {
    const { worker } = this;
    this.worker = null;
    this.ready = false;
    clearTimeout(this.timer);
    await worker?.terminate();
  }

  private failure(messages: number, reason: string): SwiftKVError {
    return new SwiftKVError(
      'ERR_CHAT_TEMPLATE',
      `The chat template of ${this.where} failed on ${messages} message(s): ${reason}. ` +
        'Check the roles and their order, mend the template, or render the prompt yourself and pass it as `prompt`.',
    );
  }
}

function disposedError(): SwiftKVError {
  return new SwiftKVError('ERR_DISPOSED', 'The tokenizer was disposed of while it rendered a chat.');
}
