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

  /** Those whose answers are complete, though nobody has been told so yet, end by themselves. */
  failAll(error: SwiftKVError): void {
    const before = this.requests.size;
    for (const request of [...this.requests]) request.fail(error);
    this.numFailed += before - this.requests.size;
  }

  /**
   * Every call waits for the same requests; each may bring a timeout.
   * @param timeoutMs null: for as long as it takes
   */
  async drain(timeoutMs: number | null): Promise<DrainResult> {
    this.draining ??= this.empty();
    if (timeoutMs === null) return this.draining;
    const timer = setTimeout(() => {
      this.failAll(
        new SwiftKVError(
          'ERR_ABORTED',
          `The engine was drained and the request had not ended after ${timeoutMs} ms (drain)`,
        ),
      );
    }, timeoutMs);
    const result = await this.draining;
    clearTimeout(timer);
    return result;
  }

  private async empty(): Promise<DrainResult> {
    const total = this.requests.size;
    const failedBefore = this.numFailed;
    if (total > 0) {
      await new Promise<void>((resolve) => {
        this.onEmpty = resolve;
      });
    }
    const aborted = this.numFailed - failedBefore;
    return { finished: total - aborted, aborted };
  }
}
