// Sixteen e4m3 codes at a time, bit for bit what core/dtype.h does one at a time.
#pragma once

#include <immintrin.h>

#include "backends/cpu/avx512/lanes.h"

namespace swiftkv::cpu::avx512 {

// Round to nearest even, saturate to +-448, NaN stays NaN: to_fp8_e4m3 of every lane.
static inline __m128i encode_fp8(__m512 x) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i magnitude = _mm512_and_epi32(u, _mm512_set1_epi32(0x7fffffff));
  const __m512i sign = _mm512_and_epi32(_mm512_srli_epi32(u, 24), _mm512_set1_epi32(0x80));
  const __m512i even = _mm512_and_epi32(_mm512_srli_epi32(magnitude, 20), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(magnitude, _mm512_set1_epi32(0x7ffff)), even);
  __m512i code = _mm512_srli_epi32(_mm512_sub_epi32(rounded, _mm512_set1_epi32(0x3c000000)), 20);
  // Below 2^-6 the steps are 2^-9, the unit of 2^14 in f32: the adder rounds.
  const __mmask16 subnormal = _mm512_cmplt_epi32_mask(magnitude, _mm512_set1_epi32(0x3c800000));
  const __m512 shifted = _mm512_add_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(16384.0f));
  code = _mm512_mask_sub_epi32(code, subnormal, _mm512_castps_si512(shifted), _mm512_set1_epi32(0x46800000));
  const __mmask16 saturated = _mm512_cmpge_epi32_mask(magnitude, _mm512_set1_epi32(0x43e00000));
  code = _mm512_mask_mov_epi32(code, saturated, _mm512_set1_epi32(0x7e));
  const __mmask16 nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7f800000));
  code = _mm512_mask_mov_epi32(code, nan, _mm512_set1_epi32(0x7f));
  return _mm512_cvtepi32_epi8(_mm512_or_epi32(code, sign));
}

// to_f32 of every lane. The code's exponent and mantissa fields, moved to those of f32, are the value times 2^-120,
// subnormals included; the multiplication is exact.
static inline __m512 decode_fp8(__m128i codes) {
  const __m512i wide = _mm512_cvtepu8_epi32(codes);
  const __m512i magnitude = _mm512_and_epi32(wide, _mm512_set1_epi32(0x7f));
  const __m512i sign = _mm512_slli_epi32(_mm512_and_epi32(wide, _mm512_set1_epi32(0x80)), 24);
  const __m512 scaled = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(magnitude, 20)), _mm512_set1_ps(0x1p120f));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f));
  const __m512i value = _mm512_mask_mov_epi32(_mm512_castps_si512(scaled), nan, _mm512_set1_epi32(0x7fc00000));
  return _mm512_castsi512_ps(_mm512_or_epi32(value, sign));
}

// Halves of the bf16 number of each code below 0x80: a table takes any code to it in one instruction, subnormals and
// NaN included.
alignas(64) static constexpr uint8_t kFp8High[128] = {
    0x00, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3c, 0x3d, 0x3d, 0x3d,
    0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3d, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e,
    0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3e, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
    0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40,
    0x40, 0x40, 0x40, 0x40, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41,
    0x41, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x43, 0x43,
    0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x43, 0x7f};
alignas(64) static constexpr uint8_t kFp8Low[128] = {
    0x00, 0x00, 0x80, 0xc0, 0x00, 0x20, 0x40, 0x60, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0, 0x00, 0x10, 0x20,
    0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0, 0x00, 0x10, 0x20, 0x30, 0x40, 0x50,
    0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0, 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80,
    0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0, 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0,
    0xc0, 0xd0, 0xe0, 0xf0, 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0,
    0xf0, 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0, 0x00, 0x10,
    0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xc0};

struct Fp8Pairs {
  __m512i low, high;
};

// 64 codes to bf16, exactly: the words of the low and of the high halves of each 16 bytes.
static inline Fp8Pairs widen_fp8(__m512i codes) {
  const __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(kFp8High), codes, _mm512_load_si512(kFp8High + 64));
  const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(kFp8Low), codes, _mm512_load_si512(kFp8Low + 64));
  // The index ignores bit 7, the sign: high | (codes & 0x80).
  const __m512i sign = _mm512_ternarylogic_epi64(high, codes, _mm512_set1_epi8(static_cast<char>(0x80)), 0xf8);
  return {_mm512_unpacklo_epi8(low, sign), _mm512_unpackhi_epi8(low, sign)};
}

// The dynamic scale of n values, of their largest magnitude. NaN is passed over.
static inline float row_fp8_scale(const float* x, int64_t n) {
  __m512 most = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    const __m512 v = _mm512_abs_ps(load_lanes(x + i, first_lanes(n - i)));
    most = _mm512_max_ps(v, most);  // the second operand when either is NaN
  }
  return fp8_scale(max_lanes(most));
}

// codes[i] = fp8(x[i] / scale)
static inline void quantize_fp8(const float* x, float scale, int64_t n, uint8_t* codes) {
  const __m512 divisor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    const __m512 v = _mm512_div_ps(load_lanes(x + i, m), divisor);
    _mm_mask_storeu_epi8(codes + i, m, encode_fp8(v));
  }
}

}  // namespace swiftkv::cpu::avx512
