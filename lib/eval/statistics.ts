// Estimates and how far they may be off.

export interface Estimate {
  value: number;
  /** NaN where there are too few samples to say. */
  standardError: number;
}

/** A share of yes among independent items; its error is that of the mean of zeros and ones. */
export function proportion(yes: number, items: number): Estimate & { yes: number; items: number } {
  const value = yes / items;
  return { yes, items, value, standardError: Math.sqrt((value * (1 - value)) / (items - 1)) };
}

/** A mean per unit over clusters of unequal size, such as nats per token over windows: sum of totals / sum of sizes. */
export function ratioOfSums(totals: readonly number[], sizes: readonly number[]): Estimate {
  const n = totals.length;
  const size = sum(sizes);
  const value = sum(totals) / size;
  const squares = sum(totals.map((total, i) => (total - value * sizes[i]!) ** 2));
  return { value, standardError: Math.sqrt((squares * n) / (n - 1)) / size };
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
