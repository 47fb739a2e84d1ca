// Masks, stores and sums of 16 f32 lanes that every kernel of this level shares.
#pragma once

#include <immintrin.h>

#include <cstdint>

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

}  // namespace swiftkv::cpu::avx512
