// Eight lanes: AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include "backends/cpu/simd/product.h"
#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::avx2 {
namespace {

struct Vec : simd::Lanes<8> {
  // Of 16 registers; the others hold two columns of weights, a broadcast and a mask.
  static constexpr int kAccumulators = 12;
  using Bf16Dot = simd::DotWidened<Vec>;

  static inline F32 fmadd(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
  static inline F64 fmadd(F64 a, F64 b, F64 c) { return _mm256_fmadd_pd(a, b, c); }
  static inline F32 sqrt(F32 v) { return _mm256_sqrt_ps(v); }

  static inline U32 widen(U16 v) { return reinterpret_cast<U32>(_mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(v))); }
  static inline U32 widen(U8 v) {
    const __m128i bytes = _mm_cvtsi64_si128(reinterpret_cast<int64_t>(v));
    return reinterpret_cast<U32>(_mm256_cvtepu8_epi32(bytes));
  }

  static inline U16 narrow16(U32 v) {
    const __m256i x = reinterpret_cast<__m256i>(v);
    return reinterpret_cast<U16>(_mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
  }
  static inline U8 narrow8(U32 v) {
    const __m128i words = reinterpret_cast<__m128i>(narrow16(v));
    return reinterpret_cast<U8>(_mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
  }

  // The instruction multiplies unsigned bytes by signed ones and saturates sums of two to 16 bits: |w| by a with w's
  // sign stays below.
  using Int8Sums = I32;
  static inline I32 add_products(I32 sums, S8 w, S8 a) {
    const __m256i weights = reinterpret_cast<__m256i>(w);
    const __m256i pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(reinterpret_cast<__m256i>(a), weights));
    return sums + reinterpret_cast<I32>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static inline I32 total(I32 sums) { return sums; }

  static inline void transpose(U32 (&rows)[8]) {
    __m256 quad[8];
    for (int i = 0; i < 8; i += 4) {
      const __m256 a = reinterpret_cast<__m256>(rows[i]), b = reinterpret_cast<__m256>(rows[i + 1]);
      const __m256 c = reinterpret_cast<__m256>(rows[i + 2]), d = reinterpret_cast<__m256>(rows[i + 3]);
      const __m256 low_ab = _mm256_unpacklo_ps(a, b), high_ab = _mm256_unpackhi_ps(a, b);
      const __m256 low_cd = _mm256_unpacklo_ps(c, d), high_cd = _mm256_unpackhi_ps(c, d);
      quad[i] = _mm256_shuffle_ps(low_ab, low_cd, 0x44);
      quad[i + 1] = _mm256_shuffle_ps(low_ab, low_cd, 0xee);
      quad[i + 2] = _mm256_shuffle_ps(high_ab, high_cd, 0x44);
      quad[i + 3] = _mm256_shuffle_ps(high_ab, high_cd, 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      rows[i] = reinterpret_cast<U32>(_mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
      rows[i + 4] = reinterpret_cast<U32>(_mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
    }
  }
};

}  // namespace
}  // namespace swiftkv::cpu::avx2
