// The squared distance of rows to their targets, and its gradient.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/train/lanes.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kMsePieceRows = 8;

template <class V>
static Status mse(const MseParams& p, const Context& c) {
  using F32 = typename V::F32;
  c.parallel_for(piece_count(p.rows, kMsePieceRows), [&](int64_t index, int) {
    const Piece rows = piece_of(index, kMsePieceRows, p.rows);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const float* x = p.x + i * p.dim;
      const float* target = p.target + i * p.dim;
      float* dx = p.dx + i * p.dim;
      const F32 twice = simd::set<V>(2.0f * p.weights[i]);
      F32 sum{};
      for_lanes<V>(0, p.dim, [&](int64_t j, int64_t n) {
        const F32 difference = simd::load_first<V>(x + j, n) - simd::load_first<V>(target + j, n);
        sum = V::fmadd(difference, difference, sum);
        simd::store_first<V>(dx + j, n, V::fmadd(twice, difference, simd::load_first<V>(dx + j, n)));
      });
      p.loss[i] = p.weights[i] * simd::sum_lanes<V>(sum);
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::train
