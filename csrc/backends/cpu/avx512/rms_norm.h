// RMSNorm of one row, shared by the op, swiftkv_project and the norms of heads (x and out may be the same there).
#pragma once

#include "backends/cpu/avx512/lanes.h"

namespace swiftkv::cpu::avx512 {

// out[i] = w[i] * (x[i] * rsqrt(mean(x^2) + eps)) for i < dim; f32 inside, one rounding at the store. Four accumulators
// of 16 lanes take turns along x, so the order of the sum depends on dim alone. Out is float or bf16.
template <class Out>
static inline void norm_row(const float* x, const float* w, float eps, int64_t dim, Out* out) {
  __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    for (int turn = 0; turn < 4; ++turn) {
      const __m512 v = _mm512_loadu_ps(x + i + 16 * turn);
      sums[turn] = _mm512_fmadd_ps(v, v, sums[turn]);
    }
  }
  for (int turn = 0; i < dim; i += 16, ++turn) {
    const __m512 v = load_lanes(x + i, first_lanes(dim - i));
    sums[turn] = _mm512_fmadd_ps(v, v, sums[turn]);
  }
  const __m512 total = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
  const float mean = sum_lanes(total) / static_cast<float>(dim);
  const __m512 factor = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps))));
  for (i = 0; i < dim; i += 16) {
    const __mmask16 m = first_lanes(dim - i);
    store_lanes(out + i, m, _mm512_mul_ps(load_lanes(w + i, m), _mm512_mul_ps(load_lanes(x + i, m), factor)));
  }
}

}  // namespace swiftkv::cpu::avx512
