// f32 weights times rows of V where they lie in pages of bf16, for the few rows of decode, all of which see the same
// keys: packing V would cost as much as the product. Sums stay in registers over all keys of a split; they are those of
// DotMixed, in the same order.
#pragma once

#include "backends/cpu/avx512/attention_tile.h"
#include "backends/cpu/cache_layout.h"

namespace swiftkv::cpu::avx512 {

struct WeightedRows {
  const float* weights;           // [rows, kAttentionSplit]
  const std::byte* const* v;      // [blocks] rows of V
  const std::byte* const* fetch;  // [blocks] memory to fetch meanwhile, a line for each key and strip,
  int64_t fetch_apart;            // and another so many bytes behind it
  int64_t keys;                   // 1..kAttentionSplit
  int64_t row_bytes;              // of V
  float* out;                     // [rows, out_stride]
  int64_t out_stride;
  bool add = false;         // start from what is in out; otherwise from 0
  int64_t strip_begin = 0;  // bytes of a row before this strip of columns
  int64_t fetch_begin = 0;  // bytes of a block that strips before this one fetch
};

// C vectors of outputs, a pair from each vector of words: the even dimensions, then the odd ones.
template <int R, int C>
static void weigh_rows_tile(const WeightedRows& p) {
  __m512 sums[R][C];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c)
      sums[r][c] = p.add ? _mm512_loadu_ps(p.out + r * p.out_stride + 16 * c) : _mm512_setzero_ps();
  }
  const int64_t row_bytes = p.row_bytes, fetch_apart = p.fetch_apart;
  const float* a = p.weights;
  const std::byte* const* fetches = p.fetch;
  const std::byte* const* blocks = p.v;
  for (int64_t left = p.keys; left > 0; left -= kBlockTokens, ++blocks, ++fetches) {
    const std::byte* v = *blocks + p.strip_begin;
    const std::byte* fetch = *fetches + p.fetch_begin;
    const float* end = a + (left < kBlockTokens ? left : kBlockTokens);
    for (; a < end; ++a, v += row_bytes, fetch += 64) {
      prefetch_line(fetch);
      prefetch_line(fetch + fetch_apart);
      __m512 column[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c)
        column[c] = _mm512_castsi512_ps(widen_half(_mm512_loadu_si512(v + c / 2 * 64), c % 2));
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512 weight = _mm512_set1_ps(a[r * kAttentionSplit]);
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sums[r][c] = _mm512_fmadd_ps(weight, column[c], sums[r][c]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) _mm512_storeu_ps(p.out + r * p.out_stride + 16 * c, sums[r][c]);
  }
}

using WeighRowsFunction = void (*)(const WeightedRows&);

static constexpr WeighRowsFunction kWeighRowsFunctions[kTileRows][kTileColumns / 2] = {
    {weigh_rows_tile<1, 2>, weigh_rows_tile<1, 4>}, {weigh_rows_tile<2, 2>, weigh_rows_tile<2, 4>},
    {weigh_rows_tile<3, 2>, weigh_rows_tile<3, 4>}, {weigh_rows_tile<4, 2>, weigh_rows_tile<4, 4>},
    {weigh_rows_tile<5, 2>, weigh_rows_tile<5, 4>}, {weigh_rows_tile<6, 2>, weigh_rows_tile<6, 4>},
};

// rows 1..6, an even number of 16-wide columns, in strips of four and at last two. Where there are several strips, all
// take a few blocks before any takes more: the lines of wide rows would leave L1 between one strip and the next.
static inline void weigh_rows(int64_t rows, int64_t columns, const WeightedRows& all) {
  const int64_t chunk = columns <= kTileColumns ? kAttentionSplit : 2 * kBlockTokens;
  for (int64_t begin = 0; begin < all.keys; begin += chunk) {
    WeightedRows p = all;
    p.weights += begin;
    p.v += begin / kBlockTokens;
    p.fetch += begin / kBlockTokens;
    p.keys = all.keys - begin < chunk ? all.keys - begin : chunk;
    p.add = begin > 0;
    for (int64_t c = 0; c < columns; c += kTileColumns) {
      const int64_t width = columns - c < kTileColumns ? columns - c : kTileColumns;
      kWeighRowsFunctions[rows - 1][width / 2 - 1](p);
      p.strip_begin += 32 * width;
      p.fetch_begin += 64 * kBlockTokens;
      p.out += 16 * width;
    }
  }
}

// Outputs of weigh_rows in order of dimensions, in place.
static inline void order_row(float* out, int64_t columns) {
  const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  for (int64_t c = 0; c < columns; c += 2, out += 32) {
    const __m512 even = _mm512_loadu_ps(out), odd = _mm512_loadu_ps(out + 16);
    _mm512_storeu_ps(out, _mm512_permutex2var_ps(even, low, odd));
    _mm512_storeu_ps(out + 16, _mm512_permutex2var_ps(even, high, odd));
  }
}

}  // namespace swiftkv::cpu::avx512
