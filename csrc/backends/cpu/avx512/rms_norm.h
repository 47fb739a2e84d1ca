// RMSNorm of one row, shared by the rms_norm op and swiftkv_project.
#pragma once

#include <immintrin.h>

#include <cmath>

#include "backends/cpu/avx512/lanes.h"

namespace swiftkv::cpu::avx512 {

// out[i] = w[i] * (x[i] * rsqrt(mean(x^2) + eps)) for i < dim; f32 inside, one rounding at the store. Four accumulators
// of 16 lanes take turns along x, so the order of the sum depends on dim alone.
template <class Out>
static inline void norm_row(const float* x, const float* w, float eps, int64_t dim, Out* out) {
  __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + 64 <= dim; i += 64) {
    for (int lane = 0; lane < 4; ++lane) {
      const __m512 v = _mm512_loadu_ps(x + i + 16 * lane);
      sums[lane] = _mm512_fmadd_ps(v, v, sums[lane]);
    }
  }
  for (int lane = 0; i < dim; i += 16, ++lane) {
    const __m512 v = _mm512_maskz_loadu_ps(first_lanes(dim - i), x + i);
    sums[lane] = _mm512_fmadd_ps(v, v, sums[lane]);
  }
  const __m512 total = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
  const float mean = sum_lanes(total) / static_cast<float>(dim);
  const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(mean + eps));
  for (i = 0; i < dim; i += 16) {
    const __mmask16 m = first_lanes(dim - i);
    const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
    const __m512 g = _mm512_maskz_loadu_ps(m, w + i);
    store_lanes(out + i, m, _mm512_mul_ps(g, _mm512_mul_ps(v, factor)));
  }
}

}  // namespace swiftkv::cpu::avx512
