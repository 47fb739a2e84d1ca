// The gradient of a product's weights is a product too: dy transposed by a, whose reduction runs over rows. It is
// made by the level's own: pieces of rows, in ascending order, are laid out as its operands and added to dw.
#pragma once

#include "backends/cpu/train/carver.h"
#include "backends/cpu/train/panels.h"
#include "core/train_ops.h"

namespace swiftkv::cpu::train {

// Rows of a piece and outputs of a block: what a product reads was written just before and is still near, and adding to
// dw costs little beside so many multiply-adds. A row of dy transposed is no multiple of 4 KiB, or the lines of 64 such
// rows would contend for one place in L1. Even, so that pairs of bf16 do not cross pieces. Measured on Zen 5: with
// 2048 rows and 1536 outputs, f32 was a sixth slower.
inline constexpr int64_t kReducedRows = 1040;
inline constexpr int64_t kReducedOutputs = 384;  // twice the rows of a product's pieces

static inline int64_t no_more(int64_t a, int64_t limit) {
  return a < limit ? a : limit;
}

// Operands of the product of one piece.
struct ReducedOperands {
  uint32_t *a, *dy;  // panels [k, rows], [outputs, rows]

  ReducedOperands(const LinearBackwardParams& p, int64_t words, Carver& carver) {
    a = carver.take<uint32_t>(piece_count(p.k, kPanel) * kPanel * words);
    dy = carver.take<uint32_t>(no_more(p.n, kReducedOutputs) * words);
  }
};

template <class T>
static LinearParams reduced_product(const LinearBackwardParams& p, const ReducedOperands& s, int64_t words,
                                    int64_t output, int64_t outputs) {
  return {.rows = outputs,
          .a = {s.dy, p.a.dtype},
          .w = {s.a, p.a.dtype, Layout::panels, p.k, words * kWordNumbers<T>},
          .bias = nullptr,
          .accumulate = true,
          .y = {p.dw + output * p.k, DType::f32}};
}

template <class Level>
static size_t linear_backward_scratch(const LinearBackwardParams& p, int threads) {
  if (p.rows == 0) return 0;
  const auto bytes = [&]<class T>(T) {
    const int64_t words = words_of<T>(no_more(p.rows, kReducedRows));
    Carver carver(nullptr);
    const ReducedOperands counted(p, words, carver);
    const LinearParams product = reduced_product<T>(p, counted, words, 0, no_more(p.n, kReducedOutputs));
    return carver.used() + Level::linear_scratch(product, threads);
  };
  return p.a.dtype == DType::bf16 ? bytes(bf16{}) : bytes(float{});
}

// dbias += the sum of dy's rows: blocks of rows, each summed from 0.
template <class V, class T>
static void sum_rows(const LinearBackwardParams& p, const Context& c) {
  constexpr int64_t kRows = 128, kVectors = kPanel / V::kLanes;
  const T* dy = static_cast<const T*>(p.dy.data);
  c.parallel_for(piece_count(p.n, kPanel), [&](int64_t index, int) {
    const Piece columns = piece_of(index, kPanel, p.n);
    typename V::F32 total[kVectors]{};
    for (int64_t block = 0; block < piece_count(p.rows, kRows); ++block) {
      const Piece rows = piece_of(block, kRows, p.rows);
      typename V::F32 sum[kVectors]{};
      for (int64_t i = rows.begin; i < rows.end; ++i)
        for (int64_t v = 0, j = columns.begin; j < columns.end; ++v, j += V::kLanes)
          sum[v] += simd::load_first<V>(dy + i * p.n + j, columns.end - j);
      for (int64_t v = 0; v < kVectors; ++v) total[v] += sum[v];
    }
    for (int64_t v = 0, j = columns.begin; j < columns.end; ++v, j += V::kLanes) {
      const int64_t n = columns.end - j;
      simd::store_first<V>(p.dbias + j, n, simd::load_first<V>(p.dbias + j, n) + total[v]);
    }
  });
}

template <class Level, class T>
static Status reduce_rows(const LinearBackwardParams& p, const Context& c) {
  using V = typename Level::Vec;
  Carver carver(c.scratch);
  const ReducedOperands s(p, words_of<T>(no_more(p.rows, kReducedRows)), carver);
  const Context inner = carver.rest(c);
  for (int64_t piece = 0; piece < piece_count(p.rows, kReducedRows); ++piece) {
    const Piece rows = piece_of(piece, kReducedRows, p.rows);
    const int64_t count = rows.end - rows.begin, words = words_of<T>(count);
    pack_down<V, T>(static_cast<const T*>(p.a.data) + rows.begin * p.k, count, p.k, s.a, c);
    for (int64_t output = 0; output < p.n; output += kReducedOutputs) {
      const int64_t outputs = no_more(p.n - output, kReducedOutputs);
      transpose<V, T>(static_cast<const T*>(p.dy.data) + rows.begin * p.n + output, count, p.n, outputs, s.dy, c);
      const Status status = Level::linear(reduced_product<T>(p, s, words, output, outputs), inner);
      if (!status.ok()) return status;
    }
  }
  if (p.dbias != nullptr) sum_rows<V, T>(p, c);
  return {};
}

template <class Level>
static Status linear_backward(const LinearBackwardParams& p, const Context& c) {
  if (p.rows == 0) return {};
  return p.a.dtype == DType::bf16 ? reduce_rows<Level, bf16>(p, c) : reduce_rows<Level, float>(p, c);
}

}  // namespace swiftkv::cpu::train
