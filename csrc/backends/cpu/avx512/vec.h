// Sixteen lanes, for the templates of training; the level's own kernels use its intrinsics.
#pragma once

#include <immintrin.h>

#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::avx512 {
namespace {

struct Vec : simd::Lanes<16> {
  static inline F32 fmadd(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
  static inline F64 fmadd(F64 a, F64 b, F64 c) { return _mm512_fmadd_pd(a, b, c); }
  static inline F32 sqrt(F32 v) { return _mm512_sqrt_ps(v); }
  // sum + the products of the two bf16 in each lane.
  static inline F32 add_pair_products(F32 sum, F32 a, F32 b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
  // To nearest even; subnormal results become zero.
  static inline U16 round_bf16(F32 v) { return reinterpret_cast<U16>(_mm512_cvtneps_pbh(v)); }
  static inline U32 widen(U16 v) { return reinterpret_cast<U32>(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(v))); }
  static inline U16 narrow16(U32 v) {
    return reinterpret_cast<U16>(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(v)));
  }
  static inline void transpose(U32 (&rows)[16]) {
    // 4 x 4 blocks of lanes within quarters of registers, then the quarters among registers.
    __m512 quad[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      const __m512 a = reinterpret_cast<__m512>(rows[i]), b = reinterpret_cast<__m512>(rows[i + 1]);
      const __m512 c = reinterpret_cast<__m512>(rows[i + 2]), d = reinterpret_cast<__m512>(rows[i + 3]);
      const __m512 low_ab = _mm512_unpacklo_ps(a, b), high_ab = _mm512_unpackhi_ps(a, b);
      const __m512 low_cd = _mm512_unpacklo_ps(c, d), high_cd = _mm512_unpackhi_ps(c, d);
      quad[i] = _mm512_shuffle_ps(low_ab, low_cd, 0x44);
      quad[i + 1] = _mm512_shuffle_ps(low_ab, low_cd, 0xee);
      quad[i + 2] = _mm512_shuffle_ps(high_ab, high_cd, 0x44);
      quad[i + 3] = _mm512_shuffle_ps(high_ab, high_cd, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512 even01 = _mm512_shuffle_f32x4(quad[i], quad[i + 4], 0x88);
      const __m512 odd01 = _mm512_shuffle_f32x4(quad[i], quad[i + 4], 0xdd);
      const __m512 even23 = _mm512_shuffle_f32x4(quad[i + 8], quad[i + 12], 0x88);
      const __m512 odd23 = _mm512_shuffle_f32x4(quad[i + 8], quad[i + 12], 0xdd);
      rows[i] = reinterpret_cast<U32>(_mm512_shuffle_f32x4(even01, even23, 0x88));
      rows[i + 4] = reinterpret_cast<U32>(_mm512_shuffle_f32x4(odd01, odd23, 0x88));
      rows[i + 8] = reinterpret_cast<U32>(_mm512_shuffle_f32x4(even01, even23, 0xdd));
      rows[i + 12] = reinterpret_cast<U32>(_mm512_shuffle_f32x4(odd01, odd23, 0xdd));
    }
  }
};

}  // namespace
}  // namespace swiftkv::cpu::avx512
