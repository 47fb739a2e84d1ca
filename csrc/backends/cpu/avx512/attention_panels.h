// From pages to panels: K of 64 keys with keys across, V of 64 keys with the head's dimensions across, as the words
// that attention_tile.h multiplies: bf16 pairs from bf16 and fp8 caches (e4m3 widens exactly), f32 from f32 caches.
#pragma once

#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/cache_layout.h"

namespace swiftkv::cpu::avx512 {

inline constexpr int64_t kPanelKeys = 64;
inline constexpr int64_t kPanelBlocks = kPanelKeys / kBlockTokens;

// 32 codes as bf16. Codes with exponent 0 are the multiples of 2^-9 up to 7, looked up; the rest only move their
// fields.
static inline __m512i fp8_to_bf16(__m256i codes) {
  alignas(64) static constexpr uint16_t kSubnormal[32] = {0x0000, 0x3b00, 0x3b80, 0x3bc0,
                                                          0x3c00, 0x3c20, 0x3c40, 0x3c60};
  const __m512i wide = _mm512_cvtepu8_epi16(codes);
  const __m512i magnitude = _mm512_and_si512(wide, _mm512_set1_epi16(0x7f));
  const __m512i normal = _mm512_add_epi16(_mm512_slli_epi16(magnitude, 4), _mm512_set1_epi16(120 << 7));
  const __mmask32 subnormal = _mm512_testn_epi16_mask(magnitude, _mm512_set1_epi16(0x78));
  const __mmask32 nan = _mm512_cmpeq_epi16_mask(magnitude, _mm512_set1_epi16(0x7f));
  __m512i value = _mm512_mask_permutexvar_epi16(normal, subnormal, magnitude, _mm512_load_si512(kSubnormal));
  value = _mm512_mask_mov_epi16(value, nan, _mm512_set1_epi16(0x7fc0));
  return _mm512_or_si512(value, _mm512_slli_epi16(_mm512_andnot_si512(_mm512_set1_epi16(0x7f), wide), 8));
}

template <class T>
static constexpr int64_t kPanelPair = sizeof(T) == sizeof(float) ? 1 : 2;  // numbers in a word of a panel

// 16 words from dimension d of a row of hd, zero beyond its end.
static inline __m512i load_words(const bf16* row, int64_t d, int64_t hd) {
  return _mm512_maskz_loadu_epi16(first_lanes32(hd - d), row + d);
}

static inline __m512i load_words(const fp8_e4m3* row, int64_t d, int64_t hd) {
  return fp8_to_bf16(_mm256_maskz_loadu_epi8(first_lanes32(hd - d), row + d));
}

static inline __m512i load_words(const float* row, int64_t d, int64_t hd) {
  return _mm512_castps_si512(load_lanes(row + d, first_lanes(hd - d)));
}

// Four words of 16 rows, transposed: out[j][row] = rows[row][j]. The loads place row i, i+4, i+8, i+12 in the quarters
// of one register, which leaves a 4 x 4 transposition inside the quarters.
static inline void transpose_quad(const std::byte* rows, int64_t row_bytes, uint32_t* out, int64_t out_stride) {
  __m512i quad[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const std::byte* row = rows + i * row_bytes;
    const auto part = [&](int64_t r) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + r * row_bytes)); };
    __m512i v = _mm512_castsi128_si512(part(0));
    v = _mm512_mask_broadcast_i32x4(v, 0x00f0, part(4));
    v = _mm512_mask_broadcast_i32x4(v, 0x0f00, part(8));
    quad[i] = _mm512_mask_broadcast_i32x4(v, 0xf000, part(12));
  }
  const __m512i low01 = _mm512_unpacklo_epi32(quad[0], quad[1]), high01 = _mm512_unpackhi_epi32(quad[0], quad[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(quad[2], quad[3]), high23 = _mm512_unpackhi_epi32(quad[2], quad[3]);
  _mm512_storeu_si512(out, _mm512_unpacklo_epi64(low01, low23));
  _mm512_storeu_si512(out + out_stride, _mm512_unpackhi_epi64(low01, low23));
  _mm512_storeu_si512(out + 2 * out_stride, _mm512_unpacklo_epi64(high01, high23));
  _mm512_storeu_si512(out + 3 * out_stride, _mm512_unpackhi_epi64(high01, high23));
}

// The 16 keys of one block to columns [16 lanes] of a K panel [words][64 keys], words = hd / kPanelPair. `rows` has
// room for 16 rows of whole vectors; the panel has room for a multiple of four words.
template <class T>
static inline void pack_k(const T* k, int64_t hd, uint32_t* rows, uint32_t* panel) {
  const int64_t words = hd / kPanelPair<T>;
  const std::byte* from = reinterpret_cast<const std::byte*>(k);
  int64_t row_bytes = hd * static_cast<int64_t>(sizeof(T));
  if (sizeof(T) == 1 || words % 4 != 0) {  // widened first; and a page is never read beyond its last row
    const int64_t stride = (words + 15) / 16 * 16;
    for (int64_t r = 0; r < kBlockTokens; ++r) {
      for (int64_t i = 0; i < words; i += 16)
        _mm512_storeu_si512(rows + r * stride + i, load_words(k + r * hd, i * kPanelPair<T>, hd));
    }
    from = reinterpret_cast<const std::byte*>(rows);
    row_bytes = stride * 4;
  }
  for (int64_t i = 0; i < words; i += 4) transpose_quad(from + i * 4, row_bytes, panel + i * kPanelKeys, kPanelKeys);
}

// The 16 keys of one block to rows of a V panel: [keys / 2][stride][2] bf16 or [keys][stride] f32, stride a multiple of
// 16 and at least hd.
template <class T>
static inline void pack_v(const T* v, int64_t hd, int64_t stride, uint32_t* panel) {
  alignas(64) static constexpr uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(kLow);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int64_t key = 0; key < kBlockTokens; key += 2, panel += stride) {
    for (int64_t d = 0; d < hd; d += 32) {
      const __m512i even = load_words(v + key * hd, d, hd), odd = load_words(v + (key + 1) * hd, d, hd);
      _mm512_storeu_si512(panel + d, _mm512_permutex2var_epi16(even, low, odd));
      if (d + 16 < stride) _mm512_storeu_si512(panel + d + 16, _mm512_permutex2var_epi16(even, high, odd));
    }
  }
}

static inline void pack_v(const float* v, int64_t hd, int64_t stride, uint32_t* panel) {
  for (int64_t key = 0; key < kBlockTokens; ++key, panel += stride) {
    for (int64_t d = 0; d < hd; d += 16) _mm512_storeu_si512(panel + d, load_words(v + key * hd, d, hd));
  }
}

}  // namespace swiftkv::cpu::avx512
