// The gradient of root-mean-square normalisation.
#include <algorithm>
#include <cmath>

#include "backends/cpu/pieces.h"
#include "backends/cpu/scalar/train_ops.h"

namespace swiftkv::cpu::scalar {

namespace {

constexpr int64_t kPieceRows = 64;
constexpr int64_t kPieceColumns = 256;

float* partial_dw(const Context& c, int64_t piece, int64_t dim) {
  return reinterpret_cast<float*>(c.scratch) + piece * dim;
}

}  // namespace

size_t rms_norm_backward_scratch(const RmsNormBackwardParams& p, int) {
  return static_cast<size_t>(piece_count(p.rows, kPieceRows) * p.dim) * sizeof(float);
}

Status rms_norm_backward(const RmsNormBackwardParams& p, const Context& c) {
  const int64_t pieces = piece_count(p.rows, kPieceRows);
  c.parallel_for(pieces, [&](int64_t index, int) {
    const Piece rows = piece_of(index, kPieceRows, p.rows);
    float* dw = partial_dw(c, index, p.dim);
    std::fill_n(dw, p.dim, 0.0f);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const float* x = p.x + i * p.dim;
      const float* dout = p.dout + i * p.dim;
      float* dx = p.dx + i * p.dim;
      float squares = 0.0f, product = 0.0f;
      for (int64_t j = 0; j < p.dim; ++j) {
        squares += x[j] * x[j];
        product += p.w[j] * dout[j] * x[j];
      }
      const float width = static_cast<float>(p.dim);
      const float r = 1.0f / std::sqrt(squares / width + p.eps);
      const float along_x = r * r * (product / width);
      for (int64_t j = 0; j < p.dim; ++j) {
        dx[j] += r * (p.w[j] * dout[j] - x[j] * along_x);
        dw[j] += dout[j] * (x[j] * r);
      }
    }
  });
  if (p.dw == nullptr) return {};
  c.parallel_for(piece_count(p.dim, kPieceColumns), [&](int64_t index, int) {
    const Piece columns = piece_of(index, kPieceColumns, p.dim);
    for (int64_t j = columns.begin; j < columns.end; ++j) {
      float sum = 0.0f;
      for (int64_t piece = 0; piece < pieces; ++piece) sum += partial_dw(c, piece, p.dim)[j];
      p.dw[j] += sum;
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
