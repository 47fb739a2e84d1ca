// The requests that an engine has taken and not ended: what `dispose` fails and `drain` waits for.

import { SwiftKVError } from '../errors.ts';
import type { DrainResult } from './types.ts';

export interface ActiveRequest {
  fail(error: SwiftKVError): void;
}

export class ActiveRequests {
  private readonly requests = new Set<ActiveRequest>();
  private draining: Promise<DrainResult> | null = null;
  /** Requests ended by `failAll`. */
  private numFailed = 0;
  /** Set while `drain` waits. */
  private onEmpty: (() => void) | null = null;

  /** @throws ERR_DRAINING */
  enter(request: ActiveRequest): void {
    if (this.draining !== null) {
      throw new SwiftKVError(
        'ERR_DRAINING',
        'The engine ends what it has and takes no new requests (drain); use another engine',
      );
    }
    this.requests.add(request);
  }

  leave(request: ActiveRequest): void {
    this.requests.delete(request);
    if (this.requests.size === 0) this.onEmpty?.();
  }

  failAll(error: SwiftKVError): void {
    this.numFailed += this.requests.size;
    for (const request of [...this.requests]) request.fail(error);
  }

  /** @param timeoutMs null: for as long as it takes */
  drain(timeoutMs: number | null): Promise<DrainResult> {
    this.draining ??= this.empty(timeoutMs);
    return this.draining;
  }

  private async empty(timeoutMs: number | null): Promise<DrainResult> {
    const total = this.requests.size;
    const failedBefore = this.numFailed;
    const emptied = new Promise<void>((resolve) => {
      this.onEmpty = resolve;
      if (total === 0) resolve();
    });
    const timer =
      timeoutMs === null
        ? null
        : setTimeout(() => {
            this.failAll(
              new SwiftKVError(
                'ERR_ABORTED',
                `The engine was drained and the request had not ended after ${timeoutMs} ms (drain)`,
              ),
            );
          }, timeoutMs);
    await emptied;
    if (timer !== null) clearTimeout(timer);
    const aborted = this.numFailed - failedBefore;
    return { finished: total - aborted, aborted };
  }
}
