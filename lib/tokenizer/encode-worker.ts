// Owns the tokenizer's worker thread: starts it on first use, pairs replies with requests, survives its death.

import { Worker } from 'node:worker_threads';
import { SwiftKVError } from '../errors.ts';
import type { EncodeReply, EncodeRequest, WorkerData } from './worker.ts';

/** Worker threads run compiled code only: from the TypeScript sources (tests) the built file beside them is used. */
function workerUrl(): URL {
  const fromSource = import.meta.url.endsWith('.ts');
  return new URL(fromSource ? '../../dist/tokenizer/worker.js' : './worker.js', import.meta.url);
}

interface Waiting {
  resolve(ids: Int32Array): void;
  reject(error: Error): void;
}

export class EncodeWorker {
  private readonly data: WorkerData;
  private worker: Worker | null = null;
  private readonly waiting = new Map<number, Waiting>();
  private nextKey = 0;

  constructor(data: WorkerData) {
    this.data = data;
  }

  get running(): boolean {
    return this.worker !== null;
  }

  encode(text: string, addSpecialTokens: boolean): Promise<Int32Array> {
    const worker = this.start();
    const key = this.nextKey++;
    return new Promise((resolve, reject) => {
      this.waiting.set(key, { resolve, reject });
      worker.ref();
      worker.postMessage({ key, text, addSpecialTokens } satisfies EncodeRequest);
    });
  }

  async dispose(): Promise<void> {
    const worker = this.worker;
    this.fail(worker, new SwiftKVError('ERR_DISPOSED', 'The tokenizer was disposed of while it was tokenizing.'));
    await worker?.terminate();
  }

  private start(): Worker {
    if (this.worker) return this.worker;
    const worker = new Worker(workerUrl(), { workerData: this.data });
    this.worker = worker;
    worker.unref();
    worker.on('message', (reply: EncodeReply) => {
      const waiting = this.waiting.get(reply.key);
      this.waiting.delete(reply.key);
      if (this.waiting.size === 0) worker.unref();
      if ('ids' in reply) waiting?.resolve(reply.ids);
      else waiting?.reject(new SwiftKVError(reply.code, reply.error));
    });
    const died = (reason: string) =>
      this.fail(worker, new SwiftKVError('ERR_INTERNAL', `The tokenizer's worker thread ended: ${reason}.`));
    worker.on('error', (error) => died(String(error)));
    worker.on('exit', (code) => died(`exit code ${code}`));
    return worker;
  }

  /** Rejects everything that waits for `worker`; the next request starts a new one. */
  private fail(worker: Worker | null, error: Error): void {
    if (worker === null || worker !== this.worker) return;
    this.worker = null;
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const w of waiting) w.reject(error);
  }
}
