// The one arithmetic of every matrix product and of attention: a few rows times a panel. One accumulator per output,
// steps in ascending order, whatever the tile: a row's bits do not depend on the rows beside it.
#pragma once

#include <cstddef>

#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::simd {

inline constexpr int kRowTile = 6;
inline constexpr int kColumnGroup = 16;  // columns of a product come in such groups

// A step takes one 32-bit word of every column of a panel and kNumbers numbers of a row: word and row hold the same
// elements of k.
// That is kParts multiply-adds, in ascending k.

// f32 rows, f32 panels.
template <class V>
struct DotF32 {
  using Vec = V;
  using Number = float;
  static constexpr int kNumbers = 1, kParts = 1;
  static inline typename V::F32 column(const uint32_t* words, int) { return read<typename V::F32>(words); }
  static inline typename V::F32 broadcast(const float* a) { return set<V>(*a); }
  static inline typename V::F32 step(typename V::F32 sum, typename V::F32 a, typename V::F32 b) {
    return V::fmadd(a, b, sum);
  }
};

// bf16 rows that were widened to f32, panels of bf16 pairs: first the even element, then the odd one, each widened in
// registers. The products are exact in f32.
template <class V>
struct DotWidened {
  using Vec = V;
  using Number = float;
  static constexpr int kNumbers = 2, kParts = 2;
  static inline typename V::F32 column(const uint32_t* words, int part) {
    const typename V::U32 pairs = read<typename V::U32>(words);
    return as_f32<V>(part == 0 ? pairs << 16 : pairs & 0xffff0000u);
  }
  static inline typename V::F32 broadcast(const float* a) { return set<V>(*a); }
  static inline typename V::F32 step(typename V::F32 sum, typename V::F32 a, typename V::F32 b) {
    return V::fmadd(a, b, sum);
  }
};

// out[r][c] (+)= sum over i of a[r][i] * b[i][c], i ascending.
template <class Dot>
struct Product {
  const typename Dot::Number* a;  // [rows, steps * kNumbers]
  int64_t a_stride;
  const uint32_t* b;  // [steps, columns]
  int64_t b_stride;
  float* out;  // [rows, columns]
  int64_t out_stride;
  int64_t steps;
  bool add;  // start from what is in out; otherwise from 0
  // What is wanted next, fetched meanwhile: step i of column group g brings the cache line at fetch[g] + i fetch_stride
  // near. Any address will do, a prefetch cannot fault. Null fetches nothing.
  const std::byte* const* fetch = nullptr;  // [columns / 16]
  int64_t fetch_stride = 0;                 // bytes
};

// R rows by C vectors.
template <class Dot, int R, int C>
static void multiply_tile(const Product<Dot>& p) {
  using V = typename Dot::Vec;
  using F32 = typename V::F32;
  F32 sums[R][C];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) sums[r][c] = p.add ? load<V>(p.out + r * p.out_stride + c * V::kLanes) : F32{};
  }
  const typename Dot::Number* a = p.a;
  const uint32_t* b = p.b;
  const int64_t a_stride = p.a_stride, b_stride = p.b_stride, fetch_stride = p.fetch_stride;
  constexpr int kGroups = C * V::kLanes / kColumnGroup;
  // With nothing to fetch, a line that is near already.
  const std::byte* fetch[kGroups];
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) fetch[g] = p.fetch == nullptr ? reinterpret_cast<const std::byte*>(b) : p.fetch[g];
  for (int64_t i = 0; i < p.steps; ++i, a += Dot::kNumbers, b += b_stride) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g, fetch[g - 1] += fetch_stride) __builtin_prefetch(fetch[g]);
#pragma GCC unroll 2
    for (int part = 0; part < Dot::kParts; ++part) {
      F32 column[C];
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) column[c] = Dot::column(b + c * V::kLanes, part);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const F32 x = Dot::broadcast(a + r * a_stride + part);
#pragma GCC unroll 16
        for (int c = 0; c < C; ++c) sums[r][c] = Dot::step(sums[r][c], x, column[c]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) store<V>(p.out + r * p.out_stride + c * V::kLanes, sums[r][c]);
  }
}

// Vectors across a tile of `rows` rows: the widest power of two whose sums fit the registers, at most `most`.
static inline constexpr int tile_vectors(int rows, int accumulators, int most) {
  int vectors = most;
  while (vectors * rows > accumulators) vectors /= 2;
  return vectors;
}

template <class Dot, int R, int C>
static inline void multiply_columns(int64_t columns, Product<Dot> p) {
  constexpr int kWidth = C * Dot::Vec::kLanes;
  for (; columns >= kWidth; columns -= kWidth, p.b += kWidth, p.out += kWidth) {
    multiply_tile<Dot, R, C>(p);
    if (p.fetch != nullptr) p.fetch += kWidth / kColumnGroup;
  }
  if constexpr (kWidth > kColumnGroup) multiply_columns<Dot, R, C / 2>(columns, p);
}

template <class Dot, int R>
static inline void multiply_rows(int64_t columns, const Product<Dot>& p) {
  using V = typename Dot::Vec;
  constexpr int kMost = 64 / V::kLanes;  // a panel's width
  multiply_columns<Dot, R, tile_vectors(R, V::kAccumulators, kMost)>(columns, p);
}

// rows 1..kRowTile, columns a multiple of kColumnGroup.
template <class Dot>
static void multiply(int64_t rows, int64_t columns, const Product<Dot>& p) {
  switch (rows) {
    case 1: return multiply_rows<Dot, 1>(columns, p);
    case 2: return multiply_rows<Dot, 2>(columns, p);
    case 3: return multiply_rows<Dot, 3>(columns, p);
    case 4: return multiply_rows<Dot, 4>(columns, p);
    case 5: return multiply_rows<Dot, 5>(columns, p);
    default: return multiply_rows<Dot, kRowTile>(columns, p);
  }
}

}  // namespace swiftkv::cpu::simd
