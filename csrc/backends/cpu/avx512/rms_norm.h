// RMSNorm of one row, shared by the rms_norm op and swiftkv_project.
#pragma once

#include <immintrin.h>

#include <cmath>

#include "core/dtype.h"

namespace swiftkv::cpu::avx512 {

static inline __mmask16 first_lanes(int64_t n) {
  return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1u);
}

// Sum of the 16 lanes in one fixed order: halves are folded until one lane is left.
static inline float sum_lanes(__m512 v) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}

static inline void store_lanes(float* out, __mmask16 m, __m512 v) {
  _mm512_mask_storeu_ps(out, m, v);
}

// Rounds to nearest even; NaN stays NaN. Subnormal results become zero, as everywhere in bf16 arithmetic.
static inline void store_lanes(bf16* out, __mmask16 m, __m512 v) {
  const __m256bh h = _mm512_cvtneps_pbh(v);
  __m256i bits;
  __builtin_memcpy(&bits, &h, sizeof bits);
  _mm256_mask_storeu_epi16(out, m, bits);
}

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
