// RMSNorm of one row, shared by the op, swiftkv_project and the norms of heads (x and out may be the same there).
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/simd/vec.h"
#include "backends/cpu/simd/visit_float.h"

namespace swiftkv::cpu::simd {

// out[i] = w[i] * (x[i] * rsqrt(mean(x^2) + eps)) for i < dim; f32 inside, one rounding at the store. Four accumulators
// take turns along x, so the order of the sum depends on dim alone. Out is float or bf16.
template <class V, class Out>
static void norm_row(const float* x, const float* w, float eps, int64_t dim, Out* out) {
  using F32 = typename V::F32;
  F32 sums[4] = {};
  for (int64_t i = 0; i < dim; i += 4 * V::kLanes) {
#pragma GCC unroll 4
    for (int turn = 0; turn < 4; ++turn) {
      const int64_t at = i + turn * V::kLanes;
      const F32 v = load_first<V>(x + at, dim - at);
      sums[turn] = V::fmadd(v, v, sums[turn]);
    }
  }
  const float mean = sum_lanes<V>((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<float>(dim);
  const F32 factor = set<V>(1.0f / __builtin_sqrtf(mean + eps));
  for (int64_t i = 0; i < dim; i += V::kLanes)
    store_first<V>(out + i, dim - i, load_first<V>(w + i, dim - i) * (load_first<V>(x + i, dim - i) * factor));
}

template <class V>
static Status rms_norm(const RmsNormParams& p, const Context& c) {
  visit_float(p.out.dtype, [&]<class Out>(Out) {
    Out* out = static_cast<Out*>(p.out.data);
    c.parallel_for(p.rows,
                   [&](int64_t row, int) { norm_row<V>(p.x + row * p.dim, p.w, p.eps, p.dim, out + row * p.dim); });
  });
  return {};
}

}  // namespace swiftkv::cpu::simd
