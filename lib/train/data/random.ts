// Random numbers that belong to a place, not to a moment: the same keys, the same draw, whatever was drawn before.

/** Well mixed 32 bits of some integers (murmur3's finaliser after each). */
function mix(...keys: readonly number[]): number {
  let hash = 0x9e3779b9;
  for (const key of keys) {
    // Both halves of integers beyond 32 bits count.
    for (const word of [key >>> 0, Math.floor(key / 2 ** 32) >>> 0]) {
      hash = Math.imul(hash ^ word, 0x85ebca6b);
      hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
      hash = (hash ^ (hash >>> 16)) + 0x6d2b79f5;
    }
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** In [0, 1). */
export function stableUniform(...keys: readonly number[]): number {
  return mix(...keys) / 2 ** 32;
}

/** A permutation of 0 to n - 1. */
export function stableOrder(n: number, ...keys: readonly number[]): number[] {
  const order = Array.from({ length: n }, (_, i) => i);
  let state = mix(...keys, n);
  for (let i = n - 1; i > 0; i--) {
    // Mulberry32.
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    const j = Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
