// Sixteen floats at a time: masks for the end of a row, loads and stores that convert, reductions in a fixed order,
// exp.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "core/dtype.h"

namespace swiftkv::cpu::avx512 {

// The first n of 16 lanes, n >= 0.
static inline __mmask16 first_lanes(int64_t n) {
  return n >= 16 ? __mmask16{0xffff} : static_cast<__mmask16>((1u << n) - 1u);
}

// The first n of 32 lanes, n >= 0.
static inline __mmask32 first_lanes32(int64_t n) {
  return n >= 32 ? __mmask32{0xffffffff} : static_cast<__mmask32>((uint32_t{1} << n) - 1u);
}

// The first n of 64 lanes, n >= 0.
static inline __mmask64 first_lanes64(int64_t n) {
  return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1;
}

// Inlined by force: GCC finds that a function of nothing but prefetches has no effect, and drops its calls.
[[gnu::always_inline]] static inline void prefetch_line(const std::byte* p) {
  _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0);
}

static inline __m512 widen_bf16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// Rounds to nearest even; NaN stays NaN. Subnormal results become zero, as in all bf16 arithmetic of this level.
static inline __m256i narrow_bf16(__m512 v) {
  const __m256bh h = _mm512_cvtneps_pbh(v);
  __m256i bits;
  __builtin_memcpy(&bits, &h, sizeof bits);
  return bits;
}

static inline __m512 load_lanes(const float* p, __mmask16 m) {
  return _mm512_maskz_loadu_ps(m, p);
}

static inline __m512 load_lanes(const bf16* p, __mmask16 m) {
  return widen_bf16(_mm256_maskz_loadu_epi16(m, p));
}

static inline __m512 load_lanes(const f16* p, __mmask16 m) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}

static inline void store_lanes(float* out, __mmask16 m, __m512 v) {
  _mm512_mask_storeu_ps(out, m, v);
}

static inline void store_lanes(bf16* out, __mmask16 m, __m512 v) {
  _mm256_mask_storeu_epi16(out, m, narrow_bf16(v));
}

// Sum of the lanes in one fixed order: halves are folded until one lane is left.
static inline float sum_lanes(__m512 v) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}

static inline float max_lanes(__m512 v) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 d = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(d, _mm_movehdup_ps(d)));
}

// exp(x) for x <= 0, within 2 ulp; exp(0) is 1, NaN stays NaN, and below -104 (-inf too) the result is exactly 0.
// x = n ln2 + r with |r| <= ln2 / 2, and 1 + r + r^2 q(r) for e^r: q is the minimax polynomial of degree 4 for the
// relative error of the whole, 3.1e-9.
static inline __m512 exp_lanes(__m512 x) {
  const __m512 low = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);  // the second operand is the one returned for NaN
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(low, _mm512_set1_ps(0x1.715476p+0f)), _MM_FROUND_TO_NEAREST_INT);
  const __m512 rough = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e43p-1f), low);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-0x1.05c61p-29f), rough);
  __m512 q = _mm512_set1_ps(0x1.6a2352p-10f);
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.123a6cp-7f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.5558f4p-5f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.555490p-3f));
  q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(0x1.fffffcp-2f));
  const __m512 tail = _mm512_fmadd_ps(q, _mm512_mul_ps(r, r), r);
  return _mm512_scalef_ps(_mm512_add_ps(_mm512_set1_ps(1.0f), tail), n);
}

static inline float exp_one(float x) {
  return _mm512_cvtss_f32(exp_lanes(_mm512_set1_ps(x)));
}

}  // namespace swiftkv::cpu::avx512
