// A tile of a small matrix product in registers: rows of broadcast elements times vectors of columns.
#pragma once

#include <cstdint>

#include "backends/cpu/simd/vec.h"
#include "core/dtype.h"

namespace swiftkv::cpu::train {

// What products multiply. Operands are arrays of units of 32 bits along the summed dimension, held as floats: one f32,
// or two bf16 whose products are both added to the sum.
template <class V>
struct F32Units {
  using Vec = V;
  using Element = float;
  static constexpr int64_t kElements = 1;
  static inline typename V::F32 add(typename V::F32 sum, typename V::F32 a, typename V::F32 b) {
    return V::fmadd(a, b, sum);
  }
  static inline void store(float* out, typename V::F32 v) { simd::store<V>(out, v); }
};

// For levels whose V has such an instruction. Rounds as it does: subnormal numbers become zero.
template <class V>
struct Bf16Units {
  using Vec = V;
  using Element = bf16;
  static constexpr int64_t kElements = 2;
  static inline typename V::F32 add(typename V::F32 sum, typename V::F32 a, typename V::F32 b) {
    return V::add_pair_products(sum, a, b);
  }
  static inline void store(bf16* out, typename V::F32 v) { simd::write(out, V::round_bf16(v)); }
};

template <class Units>
struct ProductTile {
  using V = typename Units::Vec;
  using F32 = typename V::F32;
  // As many sums as hide the latency of a multiply-add, and few enough that they stay in the registers of the level.
  static constexpr int kVectors = V::kLanes == 4 ? 4 : 2;
  static constexpr int kRows = V::kLanes == 16 ? 8 : 4;
  static constexpr int kColumns = kVectors * V::kLanes;

  F32 sums[kRows][kVectors];

  [[gnu::always_inline]] inline void clear() {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = F32{};
  }

  [[gnu::always_inline]] inline void scale(float factor) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] *= factor;
  }

  [[gnu::always_inline]] inline void load(const float* c, int64_t stride) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = simd::load<V>(c + r * stride + v * V::kLanes);
  }

  [[gnu::always_inline]] inline void store(float* c, int64_t stride) const {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) simd::store<V>(c + r * stride + v * V::kLanes, sums[r][v]);
  }

  // Row r += the sum over i in [0, n) of a[r row + i step] b[i b_stride ..]; all counts are in units.
  [[gnu::always_inline]] inline void add(const float* a, int64_t row, int64_t step, const float* b, int64_t b_stride,
                                         int64_t n) {
    for (int64_t i = 0; i < n; ++i, a += step, b += b_stride) {
      F32 columns[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) columns[v] = simd::load<V>(b + v * V::kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const F32 x = simd::set<V>(a[r * row]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[r][v] = Units::add(sums[r][v], x, columns[v]);
      }
    }
  }
};

}  // namespace swiftkv::cpu::train
