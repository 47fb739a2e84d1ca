// From pages to panels: K of 64 keys with keys across, V of 64 keys with the head's dimensions across, as the words
// that attention_tile.h multiplies: bf16 pairs from bf16 and fp8 caches (e4m3 widens exactly), f32 from f32 caches.
#pragma once

#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/cache_layout.h"

namespace swiftkv::cpu::avx512 {

inline constexpr int64_t kPanelKeys = 64;
inline constexpr int64_t kPanelBlocks = kPanelKeys / kBlockTokens;

// The upper and lower byte of a code's magnitude as bf16, and of NaN; the sign is the code's.
struct Fp8Table {
  alignas(64) uint8_t high[128];
  alignas(64) uint8_t low[128];
};

static constexpr Fp8Table fp8_table() {
  constexpr uint16_t kSubnormal[8] = {0x0000, 0x3b00, 0x3b80, 0x3bc0, 0x3c00, 0x3c20, 0x3c40, 0x3c60};  // m * 2^-9
  Fp8Table t{};
  for (int code = 0; code < 128; ++code) {
    const int bits = code < 8 ? kSubnormal[code] : code == 0x7f ? 0x7fc0 : (code << 4) + (120 << 7);
    t.high[code] = static_cast<uint8_t>(bits >> 8);
    t.low[code] = static_cast<uint8_t>(bits);
  }
  return t;
}

inline constexpr Fp8Table kFp8Table = fp8_table();

// 64 codes as bf16: the upper bytes, and the lower ones.
struct Bf16Bytes {
  __m512i high, low;
};

static inline Bf16Bytes decode_bytes(__m512i codes) {
  const auto look_up = [&](const uint8_t* table) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(table), codes, _mm512_load_si512(table + 64));
  };
  constexpr int kOrAnd = 0xf8;  // a | (b & c)
  return {_mm512_ternarylogic_epi32(look_up(kFp8Table.high), codes, _mm512_set1_epi8(-128), kOrAnd),
          look_up(kFp8Table.low)};
}

template <class T>
static constexpr int64_t kPanelPair = sizeof(T) == sizeof(float) ? 1 : 2;  // numbers in a word of a panel

// Words of a row of a page, and how many of a panel come of each: four codes make two pairs.
template <class T>
static constexpr int64_t kWordNumbers = 4 / static_cast<int64_t>(sizeof(T));
template <class T>
static constexpr int64_t kWordPairs = kWordNumbers<T> / kPanelPair<T>;

static inline int64_t round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}

// Words that a K panel has for heads of `hd`, those that hold nothing included: transposition takes eight words at
// once.
template <class T>
static inline int64_t k_panel_words(int64_t hd) {
  return round_up(round_up(hd, kWordNumbers<T>) / kWordNumbers<T>, 8) * kWordPairs<T>;
}

// Columns [16 lanes] of a K panel from one word of 16 rows of a page.
static inline void store_columns(float, __m512i words, uint32_t* panel) {
  _mm512_storeu_si512(panel, words);
}

static inline void store_columns(bf16, __m512i words, uint32_t* panel) {
  _mm512_storeu_si512(panel, words);
}

// Of every four codes, those with even and those with odd numbers.
static inline void store_columns(fp8_e4m3, __m512i words, uint32_t* panel) {
  const Bf16Bytes b = decode_bytes(words);
  const __mmask64 odd = 0xaaaaaaaaaaaaaaaa;
  _mm512_storeu_si512(panel, _mm512_mask_blend_epi8(odd, b.low, _mm512_slli_epi16(b.high, 8)));
  _mm512_storeu_si512(panel + kPanelKeys, _mm512_mask_blend_epi8(odd, _mm512_srli_epi16(b.low, 8), b.high));
}

// Eight words of 16 rows to columns of a panel. The loads place rows r and r + 4 in the halves of a register; what is
// left is a 4 x 4 transposition inside the quarters, and one exchange of quarters.
template <class T>
[[gnu::always_inline]] static inline void transpose_words(const std::byte* rows, int64_t row_bytes, uint32_t* panel) {
  __m512i v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const std::byte* row = rows + (i + i / 4 * 4) * row_bytes;
    v[i] = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
    v[i] = _mm512_inserti64x4(v[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 4 * row_bytes)), 1);
  }
  __m512i w[8];
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    const __m512i low01 = _mm512_unpacklo_epi32(v[i], v[i + 1]), high01 = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    const __m512i low23 = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]), high23 = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
    w[i] = _mm512_unpacklo_epi64(low01, low23);
    w[i + 1] = _mm512_unpackhi_epi64(low01, low23);
    w[i + 2] = _mm512_unpacklo_epi64(high01, high23);
    w[i + 3] = _mm512_unpackhi_epi64(high01, high23);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    store_columns(T{}, _mm512_shuffle_i32x4(w[i], w[i + 4], 0x88), panel + i * kWordPairs<T> * kPanelKeys);
    store_columns(T{}, _mm512_shuffle_i32x4(w[i], w[i + 4], 0xdd), panel + (i + 4) * kWordPairs<T> * kPanelKeys);
  }
}

// The 16 keys of one block to columns [16 lanes] of a K panel [k_panel_words][64 keys]. `staged` has room for 16 rows
// of whole vectors. Packing is kept out of line: inlined into the walk over blocks, GCC 12 spills its addresses.
template <class T>
[[gnu::noinline]] static void pack_k(const T* k, int64_t hd, std::byte* staged, uint32_t* panel,
                                     const std::byte* fetch) {
  const std::byte* from = reinterpret_cast<const std::byte*>(k);
  int64_t row_bytes = hd * static_cast<int64_t>(sizeof(T));
  const int64_t bytes = round_up(row_bytes, 32);
  if (bytes != row_bytes) {  // a page is never read beyond its last row
    const int64_t stride = round_up(row_bytes, 64);
    for (int64_t r = 0; r < kBlockTokens; ++r) {
      for (int64_t i = 0; i < row_bytes; i += 64)
        _mm512_storeu_si512(staged + r * stride + i,
                            _mm512_maskz_loadu_epi8(first_lanes64(row_bytes - i), from + r * row_bytes + i));
    }
    from = staged;
    row_bytes = stride;
  }
  constexpr int64_t kStepWords = 8 * kWordPairs<T> * kPanelKeys;
  for (int64_t i = 0; i < bytes; i += 32, panel += kStepWords, fetch += 512) {
#pragma GCC unroll 8
    for (int line = 0; line < 8; ++line) prefetch_line(fetch + 64 * line);
    transpose_words<T>(from + i, row_bytes, panel);
  }
}

// The 16 keys of one block to rows of a V panel: [keys / 2][stride][2] bf16 or [keys][stride] f32, stride a multiple of
// 16 and at least hd.
[[gnu::noinline]] static void pack_v(const bf16* v, int64_t hd, int64_t stride, uint32_t* panel,
                                     const std::byte* fetch) {
  alignas(64) static constexpr uint16_t kLow[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                    8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i low = _mm512_load_si512(kLow);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  for (int64_t d = 0; d < hd; d += 32) {
    const __mmask32 m = first_lanes32(hd - d);
    const bool both = d + 16 < stride;
    uint32_t* out = panel + d;
    const bf16* row = v + d;
#pragma GCC unroll 4
    for (int64_t key = 0; key < kBlockTokens; key += 2, out += stride, row += 2 * hd, fetch += 128) {
      prefetch_line(fetch);
      prefetch_line(fetch + 64);
      const __m512i even = _mm512_maskz_loadu_epi16(m, row), odd = _mm512_maskz_loadu_epi16(m, row + hd);
      _mm512_storeu_si512(out, _mm512_permutex2var_epi16(even, low, odd));
      if (both) _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi16(even, high, odd));
    }
  }
}

[[gnu::noinline]] static void pack_v(const fp8_e4m3* v, int64_t hd, int64_t stride, uint32_t* panel,
                                     const std::byte* fetch) {
  // Codes of two keys as neighbours, such that unpacking bytes leaves the words of 16 dimensions in order.
  alignas(64) static constexpr uint8_t kFirst[64] = {0,  64, 1,  65, 2,  66, 3,  67, 16, 80, 17, 81, 18, 82, 19, 83,
                                                     4,  68, 5,  69, 6,  70, 7,  71, 20, 84, 21, 85, 22, 86, 23, 87,
                                                     8,  72, 9,  73, 10, 74, 11, 75, 24, 88, 25, 89, 26, 90, 27, 91,
                                                     12, 76, 13, 77, 14, 78, 15, 79, 28, 92, 29, 93, 30, 94, 31, 95};
  const __m512i first = _mm512_load_si512(kFirst);
  const __m512i second = _mm512_add_epi8(first, _mm512_set1_epi8(32));
  for (int64_t d = 0; d < hd; d += 64) {
    const __mmask64 m = first_lanes64(hd - d);
    const int64_t columns = (stride - d) / 16;
    uint32_t* out = panel + d;
    const fp8_e4m3* row = v + d;
    for (int64_t key = 0; key < kBlockTokens; key += 2, out += stride, row += 2 * hd, fetch += 128) {
      prefetch_line(fetch);
      prefetch_line(fetch + 64);
      const __m512i even = _mm512_maskz_loadu_epi8(m, row), odd = _mm512_maskz_loadu_epi8(m, row + hd);
      const Bf16Bytes a = decode_bytes(_mm512_permutex2var_epi8(even, first, odd));
      _mm512_storeu_si512(out, _mm512_unpacklo_epi8(a.low, a.high));
      if (columns > 1) _mm512_storeu_si512(out + 16, _mm512_unpackhi_epi8(a.low, a.high));
      if (columns <= 2) continue;
      const Bf16Bytes b = decode_bytes(_mm512_permutex2var_epi8(even, second, odd));
      _mm512_storeu_si512(out + 32, _mm512_unpacklo_epi8(b.low, b.high));
      if (columns > 3) _mm512_storeu_si512(out + 48, _mm512_unpackhi_epi8(b.low, b.high));
    }
  }
}

[[gnu::noinline]] static void pack_v(const float* v, int64_t hd, int64_t stride, uint32_t* panel,
                                     const std::byte* fetch) {
  for (int64_t key = 0; key < kBlockTokens; ++key, panel += stride) {
    for (int64_t d = 0; d < hd; d += 16, fetch += 64) {
      prefetch_line(fetch);
      _mm512_storeu_ps(panel + d, load_lanes(v + key * hd + d, first_lanes(hd - d)));
    }
  }
}

}  // namespace swiftkv::cpu::avx512
