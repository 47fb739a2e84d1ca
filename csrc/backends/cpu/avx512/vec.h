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
  static inline U32 widen(U16 v) { return reinterpret_cast<U32>(_mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(v))); }
  static inline U16 narrow16(U32 v) {
    return reinterpret_cast<U16>(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(v)));
  }
};

}  // namespace
}  // namespace swiftkv::cpu::avx512
