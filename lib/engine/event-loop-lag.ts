// How late this thread's event loop is.

import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';

/** Milliseconds by which a timer came late. */
export interface EventLoopLag {
  p50: number;
  p90: number;
  p99: number;
  max: number;
}

/** Milliseconds between two looks. */
const resolution = 10;

/** Watches from the first `read` to `stop`. Does not keep the process alive. */
export class EventLoopLagMonitor {
  private histogram: IntervalHistogram | null = null;
  private stopped = false;

  /** Since the first call; null until there is something to say. */
  read(): EventLoopLag | null {
    if (this.histogram === null) {
      if (this.stopped) return null;
      this.histogram = monitorEventLoopDelay({ resolution });
      this.histogram.enable();
    }
    const { histogram } = this;
    if (histogram.count === 0) return null;
    // It holds times from one look to the next, in nanoseconds.
    const lag = (ns: number) => Math.max(0, ns / 1e6 - resolution);
    return {
      p50: lag(histogram.percentile(50)),
      p90: lag(histogram.percentile(90)),
      p99: lag(histogram.percentile(99)),
      max: lag(histogram.max),
    };
  }

  /** What has been seen can still be read. */
  stop(): void {
    this.stopped = true;
    this.histogram?.disable();
  }
}
