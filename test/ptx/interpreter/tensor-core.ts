// How a matrix product adds up. The hardware's order and inner precision are not specified; this is what the executor does
// (csrc/backends/simt/collectives.cpp): f32 sums in ascending k. The products of two 16-bit floats are exact.

/** c plus k products. */
export function sumOfProducts(
  c: number,
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  bAt: number,
  k: number,
  isInteger: boolean,
): number {
  let sum = c;
  for (let i = 0; i < k; i++) {
    const next = sum + a[aAt + i]! * b[bAt + i]!;
    sum = isInteger ? next : Math.fround(next);
  }
  return sum;
}
