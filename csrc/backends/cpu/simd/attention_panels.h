// From pages to f32 panels: K of 64 keys with keys across, V of 64 keys with the head's dimensions across.
#pragma once

#include "backends/cpu/simd/vec.h"
#include "core/ops.h"

namespace swiftkv::cpu::simd {

inline constexpr int64_t kPanelKeys = 64;
inline constexpr int64_t kPanelBlocks = kPanelKeys / kBlockTokens;

// Element `part` of each 32-bit word of a page, widened.
template <class V>
static inline typename V::F32 element(float, typename V::U32 words, int) {
  return as_f32<V>(words);
}

template <class V>
static inline typename V::F32 element(bf16, typename V::U32 words, int part) {
  return as_f32<V>(part == 0 ? words << 16 : words & 0xffff0000u);
}

template <class V>
static inline typename V::F32 element(fp8_e4m3, typename V::U32 words, int part) {
  return decode_fp8<V>(words >> (8 * part) & 0xffu);
}

// Rows of a K panel of heads of `hd`: whole words are stored.
static inline int64_t k_panel_rows(int64_t hd) {
  return (hd + 3) / 4 * 4;
}

// The 16 keys of one block to 16 columns of a K panel [k_panel_rows][64 keys]. A square of words is transposed, then
// every word gives its elements. Squares reach beyond a row by less than one vector: into the next row, and behind the
// last row into V. What is taken from there lands in rows behind hd or not at all.
template <class V, class T>
static void pack_k(const T* k, int64_t hd, float* panel) {
  constexpr int kParts = 4 / sizeof(T);
  const int64_t words = (hd + kParts - 1) / kParts;
  for (int64_t key = 0; key < kBlockTokens; key += V::kLanes) {
    for (int64_t word = 0; word < words; word += V::kLanes) {
      typename V::U32 square[V::kLanes];
#pragma GCC unroll 8
      for (int i = 0; i < V::kLanes; ++i)
        square[i] = read<typename V::U32>(reinterpret_cast<const std::byte*>(k + (key + i) * hd) + word * 4);
      V::transpose(square);
      float* out = panel + word * kParts * kPanelKeys + key;
      const int64_t count = words - word < V::kLanes ? words - word : V::kLanes;
      for (int64_t i = 0; i < count; ++i) {
#pragma GCC unroll 4
        for (int part = 0; part < kParts; ++part, out += kPanelKeys) store<V>(out, element<V>(T{}, square[i], part));
      }
    }
  }
}

// The 16 keys of one block to rows of a V panel [64 keys][stride], stride a multiple of 16 and at least hd.
template <class V, class T>
static void pack_v(const T* v, int64_t hd, int64_t stride, float* panel) {
  for (int64_t key = 0; key < kBlockTokens; ++key) {
    for (int64_t d = 0; d < stride; d += V::kLanes)
      store<V>(panel + key * stride + d, load_first<V>(v + key * hd + d, hd - d));
  }
}

}  // namespace swiftkv::cpu::simd
