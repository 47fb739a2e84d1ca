// Products of 8-bit activations with int8 and int4 weights: a few rows times a panel, exact within groups of 32 along
// k.
#pragma once

#include "backends/cpu/quantized.h"
#include "backends/cpu/simd/product.h"

namespace swiftkv::cpu::simd {

struct Int8Product {
  const int8_t* a;  // row 0 at the first group
  int64_t a_stride;
  const float* a_scales;  // row 0 at the first group
  int64_t scale_stride;
  const std::byte* w;  // the panel at the first group
  int64_t groups;
  int64_t last_steps;  // of the last group: fours of k, 1..8 (int4 pads its groups)
  bool add;            // start from what is in out; otherwise from 0
  float* out;          // [rows, 64]
  int64_t out_stride;
};

inline constexpr int64_t kGroupSteps = kQuantGroup / 4;

// A word holds the same four k of one output as a word of a row. Signed codes, so that no sum needs a correction.
template <class V>
struct Int8Weights {
  static constexpr int64_t kGroupBytes = kGroupSteps * kPanel * 4;
  static constexpr int64_t kWords = 1;  // fours of k in a word
  static inline typename V::S8 codes(const std::byte* w, int) {
    return reinterpret_cast<typename V::S8>(read<typename V::U32>(w) ^ 0x80808080u);
  }
  static inline const std::byte* words(const std::byte* group) { return group; }
  static inline typename V::F32 scale(const std::byte*, int64_t, typename V::F32 row_scale) { return row_scale; }
};

template <class V>
struct Int4Weights {
  static constexpr int64_t kGroupBytes = kInt4GroupBytes;
  static constexpr int64_t kWords = 2;
  static inline typename V::S8 codes(const std::byte* w, int half) {
    const typename V::U32 both = read<typename V::U32>(w);
    return reinterpret_cast<typename V::S8>((half == 0 ? both : both >> 4) & 0x0f0f0f0fu) - int8_t{kInt4Zero};
  }
  static inline const std::byte* words(const std::byte* group) { return group + kInt4ScaleBytes; }
  static inline typename V::F32 scale(const std::byte* group, int64_t column, typename V::F32 row_scale) {
    return row_scale * load<V>(reinterpret_cast<const f16*>(group) + column);
  }
};

// R rows by C vectors from column `first` on.
template <class V, class W, int R, int C>
static void multiply_int8_tile(const Int8Product& p, int64_t first) {
  using U32 = typename V::U32;
  const std::byte* group = p.w;
  for (int64_t g = 0; g < p.groups; ++g, group += W::kGroupBytes) {
    typename V::Int8Sums sums[R][C] = {};
    const std::byte* w = W::words(group) + first * 4;
    const int8_t* a = p.a + g * kQuantGroup;
    const int64_t steps = W::kWords == 1 && g + 1 == p.groups ? p.last_steps : kGroupSteps;
    for (int64_t s = 0; s < steps; s += W::kWords, w += kPanel * 4) {
#pragma GCC unroll 2
      for (int word = 0; word < W::kWords; ++word, a += 4) {
        typename V::S8 codes[C];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) codes[c] = W::codes(w + c * V::kLanes * 4, word);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
          const auto x = reinterpret_cast<typename V::S8>(U32{} + read<uint32_t>(a + r * p.a_stride));
#pragma GCC unroll 4
          for (int c = 0; c < C; ++c) sums[r][c] = V::add_products(sums[r][c], codes[c], x);
        }
      }
    }
    const bool add = p.add || g > 0;
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const typename V::F32 row_scale = set<V>(p.a_scales[r * p.scale_stride + g]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) {
        const int64_t column = first + c * V::kLanes;
        float* out = p.out + r * p.out_stride + column;
        const typename V::F32 sum = __builtin_convertvector(V::total(sums[r][c]), typename V::F32);
        store<V>(out, V::fmadd(sum, W::scale(group, column, row_scale), add ? load<V>(out) : typename V::F32{}));
      }
    }
  }
}

template <class V, class W, int R, int C>
static inline void multiply_int8_columns(const Int8Product& p) {
  for (int64_t first = 0; first < kPanel; first += C * V::kLanes) multiply_int8_tile<V, W, R, C>(p, first);
}

// rows 1..kRowTile, all of the panel's columns.
template <class V, class W>
static void multiply_int8(int64_t rows, const Int8Product& p) {
  switch (rows) {
    case 1: return multiply_int8_columns<V, W, 1, 4>(p);
    case 2: return multiply_int8_columns<V, W, 2, 2>(p);
    case 3: return multiply_int8_columns<V, W, 3, 2>(p);
    case 4: return multiply_int8_columns<V, W, 4, 1>(p);
    case 5: return multiply_int8_columns<V, W, 5, 1>(p);
    default: return multiply_int8_columns<V, W, kRowTile, 1>(p);
  }
}

}  // namespace swiftkv::cpu::simd
