// The gradient of the embedding table.
#include "backends/cpu/pieces.h"
#include "backends/cpu/scalar/train_ops.h"

namespace swiftkv::cpu::scalar {

namespace {

constexpr int64_t kPieceColumns = 128;

}  // namespace

// A token that occurs twice is why rows are not what threads share: each takes some columns of all rows.
Status embed_backward(const EmbedBackwardParams& p, const Context& c) {
  c.parallel_for(piece_count(p.dim, kPieceColumns), [&](int64_t index, int) {
    const Piece columns = piece_of(index, kPieceColumns, p.dim);
    for (int64_t i = 0; i < p.rows; ++i) {
      const float* dx = p.dx + i * p.dim;
      float* row = p.dtable + p.ids[i] * p.dim;
      for (int64_t j = columns.begin; j < columns.end; ++j) row[j] += dx[j];
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
