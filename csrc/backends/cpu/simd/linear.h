// y = a W^T + bias, or y += a W^T + bias.
#pragma once

#include "backends/cpu/simd/gemm.h"
#include "backends/cpu/simd/visit_float.h"

namespace swiftkv::cpu::simd {

static inline Gemm gemm_of(const LinearParams& p, int threads) {
  return {p.a, p.w, p.fp8_activations, plan_gemm(p.w.dtype, p.rows, p.w.n, p.w.k, 1, threads)};
}

// For every row count: the bias is added to the finished sum, and that to the old y.
template <class V, class Out>
static void store_rows(const LinearParams& p, int64_t row, int64_t rows, int64_t column, int64_t columns,
                       const float* tile, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    Out* y = static_cast<Out*>(p.y.data) + (row + r) * p.w.n + column;
    for (int64_t c = 0; c < columns; c += V::kLanes) {
      const int64_t n = columns - c;
      typename V::F32 sum = load<V>(tile + r * stride + c);
      if (p.bias != nullptr) sum = sum + load_first<V>(p.bias + column + c, n);
      if constexpr (sizeof(Out) == sizeof(float)) {
        if (p.accumulate) sum = load_first<V>(y + c, n) + sum;
      }
      store_first<V>(y + c, n, sum);
    }
  }
}

template <class V>
static size_t linear_scratch(const LinearParams& p, int threads) {
  return p.rows == 0 ? 0 : gemm_scratch<V>(gemm_of(p, threads), threads);
}

template <class V>
static Status linear(const LinearParams& p, const Context& ctx) {
  if (p.rows == 0) return {};
  gemm<V>(gemm_of(p, ctx.threads), ctx.scratch, ctx,
          [&](int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile, int64_t stride) {
            visit_float(p.y.dtype,
                        [&]<class Out>(Out) { store_rows<V, Out>(p, row, rows, column, columns, tile, stride); });
          });
  return {};
}

}  // namespace swiftkv::cpu::simd
