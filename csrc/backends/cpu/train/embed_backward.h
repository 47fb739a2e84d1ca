// The gradient of the embedding table.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/train/lanes.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kEmbedPieceColumns = 256;

// A token that occurs twice is why rows are not what threads share: each takes some columns of all rows.
template <class V>
static Status embed_backward(const EmbedBackwardParams& p, const Context& c) {
  c.parallel_for(piece_count(p.dim, kEmbedPieceColumns), [&](int64_t index, int) {
    const Piece columns = piece_of(index, kEmbedPieceColumns, p.dim);
    for (int64_t i = 0; i < p.rows; ++i) {
      const float* dx = p.dx + i * p.dim;
      float* row = p.dtable + p.ids[i] * p.dim;
      for_lanes<V>(columns.begin, columns.end, [&](int64_t j, int64_t n) {
        simd::store_first<V>(row + j, n, simd::load_first<V>(row + j, n) + simd::load_first<V>(dx + j, n));
      });
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::train
