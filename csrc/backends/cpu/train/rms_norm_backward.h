// The gradient of root-mean-square normalisation: each row is read from memory once, the sums of dw stay in cache.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/train/lanes.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kNormPieceRows = 64;
inline constexpr int64_t kNormPieceColumns = 256;

template <class V>
static size_t rms_norm_backward_scratch(const RmsNormBackwardParams& p, int) {
  if (p.dw == nullptr) return 0;
  return static_cast<size_t>(piece_count(p.rows, kNormPieceRows) * p.dim) * sizeof(float);
}

// dx of one row, and its part of dw unless that is null.
template <class V>
static inline void norm_row_backward(const RmsNormBackwardParams& p, int64_t row, float* dw) {
  using F32 = typename V::F32;
  const float* w = p.w;
  const float* x = p.x + row * p.dim;
  const float* dout = p.dout + row * p.dim;
  float* dx = p.dx + row * p.dim;
  F32 squares{}, product{};
  for_lanes<V>(0, p.dim, [&](int64_t j, int64_t n) {
    const F32 xj = simd::load_first<V>(x + j, n);
    squares = V::fmadd(xj, xj, squares);
    product = V::fmadd(simd::load_first<V>(w + j, n) * simd::load_first<V>(dout + j, n), xj, product);
  });
  const float width = static_cast<float>(p.dim);
  const float r = 1.0f / __builtin_sqrtf(simd::sum_lanes<V>(squares) / width + p.eps);
  const F32 scale = simd::set<V>(r), along_x = simd::set<V>(r * r * (simd::sum_lanes<V>(product) / width));
  for_lanes<V>(0, p.dim, [&](int64_t j, int64_t n) {
    const F32 xj = simd::load_first<V>(x + j, n), dj = simd::load_first<V>(dout + j, n);
    const F32 across_x = simd::load_first<V>(w + j, n) * dj - xj * along_x;
    simd::store_first<V>(dx + j, n, V::fmadd(scale, across_x, simd::load_first<V>(dx + j, n)));
    if (dw != nullptr) simd::store_first<V>(dw + j, n, V::fmadd(dj, xj * scale, simd::load_first<V>(dw + j, n)));
  });
}

template <class V>
static Status rms_norm_backward(const RmsNormBackwardParams& p, const Context& c) {
  float* partial_dw = p.dw == nullptr ? nullptr : reinterpret_cast<float*>(c.scratch);
  const int64_t pieces = piece_count(p.rows, kNormPieceRows);
  c.parallel_for(pieces, [&](int64_t index, int) {
    const Piece rows = piece_of(index, kNormPieceRows, p.rows);
    float* dw = partial_dw == nullptr ? nullptr : partial_dw + index * p.dim;
    if (dw != nullptr) __builtin_memset(dw, 0, static_cast<size_t>(p.dim) * sizeof(float));
    for (int64_t row = rows.begin; row < rows.end; ++row) norm_row_backward<V>(p, row, dw);
  });
  if (p.dw == nullptr) return {};
  c.parallel_for(piece_count(p.dim, kNormPieceColumns), [&](int64_t index, int) {
    const Piece columns = piece_of(index, kNormPieceColumns, p.dim);
    for_lanes<V>(columns.begin, columns.end, [&](int64_t j, int64_t n) {
      typename V::F32 sum{};
      for (int64_t i = 0; i < pieces; ++i) sum += simd::load_first<V>(partial_dw + i * p.dim + j, n);
      simd::store_first<V>(p.dw + j, n, simd::load_first<V>(p.dw + j, n) + sum);
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::train
