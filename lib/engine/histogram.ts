// Counts of durations by fixed bounds, so that two readings can be subtracted.

/** Counts are not cumulative over the buckets, and never go down. */
export interface Histogram {
  /** Upper bounds of the buckets in milliseconds, each included in its bucket; the last bucket has none. */
  bounds: number[];
  /** [bounds.length + 1] how many durations were in each bucket. */
  counts: number[];
  /** Of all durations, milliseconds. */
  sum: number;
  /** How many there were. */
  count: number;
}

/** Adding allocates nothing. */
export class DurationHistogram {
  private readonly bounds: Float64Array;
  private readonly counts: Float64Array;
  private sum = 0;
  private count = 0;

  /** @param bounds upper ones, ascending, in milliseconds */
  constructor(bounds: readonly number[]) {
    this.bounds = Float64Array.from(bounds);
    this.counts = new Float64Array(bounds.length + 1);
  }

  add(ms: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && ms > bounds[bucket]!) bucket++;
    this.counts[bucket]!++;
    this.sum += ms;
    this.count++;
  }

  read(): Histogram {
    const { sum, count } = this;
    return { bounds: Array.from(this.bounds), counts: Array.from(this.counts), sum, count };
  }
}
