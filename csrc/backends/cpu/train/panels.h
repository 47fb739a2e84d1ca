// Matrices as the words of panels (Layout::panels): an f32, or a pair of bf16 adjacent along the reduction.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/pieces.h"
#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::train {

template <class T>
inline constexpr int64_t kWordNumbers = 4 / int64_t{sizeof(T)};

// Words of a reduction over `count` numbers, an odd last bf16 being padded with zero.
template <class T>
static constexpr int64_t words_of(int64_t count) {
  return piece_count(count, kWordNumbers<T>);
}

// Words that one claim of a thread makes of each of 64 columns.
inline constexpr int64_t kClaimWords = 128;

// The first n numbers as bf16, in the low half of each lane.
template <class V>
static inline typename V::U32 low_halves(const bf16* p, int64_t n) {
  return simd::as_bits<V>(simd::load_first<V>(p, n)) >> 16;
}
template <class V>
static inline typename V::U32 low_halves(const float* p, int64_t n) {
  return simd::bf16_bits<V>(simd::load_first<V>(p, n));
}

// Word `word` down the rows of a matrix of width `stride`, of the n columns from `matrix` on.
template <class V, class T, class Src>
static inline typename V::U32 words_down(const Src* matrix, int64_t rows, int64_t stride, int64_t word, int64_t n) {
  const int64_t row = word * kWordNumbers<T>;
  const Src* p = matrix + row * stride;
  if constexpr (kWordNumbers<T> == 1) {
    return simd::as_bits<V>(simd::load_first<V>(p, n));
  } else {
    const typename V::U32 even = low_halves<V>(p, n);
    return row + 1 < rows ? even | low_halves<V>(p + stride, n) << 16 : even;
  }
}

// The first words along a row of n floats.
template <class V, class T>
static inline typename V::U32 words_along(const float* p, int64_t n) {
  if constexpr (kWordNumbers<T> == 1) {
    return simd::as_bits<V>(simd::load_first<V>(p, n));
  } else {
    bf16 pairs[2 * V::kLanes];
    simd::store<V>(pairs, simd::load_first<V>(p, n));
    if (n > V::kLanes)
      simd::store<V>(pairs + V::kLanes, simd::load_first<V>(p + V::kLanes, n - V::kLanes));
    else
      simd::write(pairs + V::kLanes, typename V::U16{});
    return simd::read<typename V::U32>(pairs);
  }
}

static inline void store_words(uint32_t* out, int64_t count, const void* words, int64_t lanes) {
  const int64_t n = count < lanes ? count : lanes;
  __builtin_memcpy(out, words, static_cast<size_t>(n) * sizeof(uint32_t));
}

// Calls f(column, columns, first word, end of words) for blocks of 64 columns, the last one narrower.
template <class F>
static void for_blocks(int64_t columns, int64_t words, const Context& c, const F& f) {
  const int64_t claims = piece_count(words, kClaimWords);
  c.parallel_for(piece_count(columns, kPanel) * claims, [&](int64_t index, int) {
    const Piece block = piece_of(index / claims, kPanel, columns);
    const Piece some = piece_of(index % claims, kClaimWords, words);
    f(block.begin, block.end - block.begin, some.begin, some.end);
  });
}

// src [rows, columns] as panels of [columns, rows], padding included.
template <class V, class T, class Src>
static void pack_down(const Src* src, int64_t rows, int64_t columns, void* panels, const Context& c) {
  const int64_t words = words_of<T>(rows);
  for_blocks(columns, words, c, [&](int64_t column, int64_t width, int64_t begin, int64_t end) {
    uint32_t* out = static_cast<uint32_t*>(panels) + column * words + begin * kPanel;
    for (int64_t word = begin; word < end; ++word, out += kPanel) {
      for (int64_t lane = 0; lane < kPanel; lane += V::kLanes) {
        const int64_t n = width - lane;
        simd::write(out + lane,
                    n > 0 ? words_down<V, T>(src + column + lane, rows, columns, word, n) : typename V::U32{});
      }
    }
  });
}

// src [n, k] as panels of [n, k], padding included.
template <class V, class T>
static void pack_along(const float* src, int64_t n, int64_t k, void* panels, const Context& c) {
  constexpr int64_t kLanes = V::kLanes, kNumbers = kWordNumbers<T>;
  const int64_t words = words_of<T>(k);
  for_blocks(n, words, c, [&](int64_t row, int64_t rows, int64_t begin, int64_t end) {
    uint32_t* const panel = static_cast<uint32_t*>(panels) + row * words;
    for (int64_t word = begin; word < end; word += kLanes) {
      const int64_t count = end - word < kLanes ? end - word : kLanes;
      for (int64_t lane = 0; lane < kPanel; lane += kLanes) {
        typename V::U32 tile[kLanes]{};
        for (int64_t i = 0; i < kLanes && lane + i < rows; ++i)
          tile[i] = words_along<V, T>(src + (row + lane + i) * k + word * kNumbers, k - word * kNumbers);
        V::transpose(tile);
        for (int64_t i = 0; i < count; ++i) simd::write(panel + (word + i) * kPanel + lane, tile[i]);
      }
    }
  });
}

// `columns` of src [rows, stride] as rows of whole words: out [columns, words_of(rows)].
template <class V, class T>
static void transpose(const T* src, int64_t rows, int64_t stride, int64_t columns, void* out, const Context& c) {
  constexpr int64_t kLanes = V::kLanes;
  const int64_t words = words_of<T>(rows);
  for_blocks(columns, words, c, [&](int64_t column, int64_t width, int64_t begin, int64_t end) {
    uint32_t* const to = static_cast<uint32_t*>(out) + column * words;
    for (int64_t word = begin; word < end; word += kLanes) {
      for (int64_t j = 0; j < width; j += kLanes) {
        typename V::U32 tile[kLanes]{};
        for (int64_t i = 0; i < kLanes && word + i < end; ++i)
          tile[i] = words_down<V, T>(src + column + j, rows, stride, word + i, width - j);
        V::transpose(tile);
        for (int64_t i = 0; i < kLanes && j + i < width; ++i)
          store_words(to + (j + i) * words + word, end - word, &tile[i], kLanes);
      }
    }
  });
}

}  // namespace swiftkv::cpu::train
