// One step of AdamW.
#include <algorithm>
#include <cmath>

#include "backends/cpu/pieces.h"
#include "backends/cpu/scalar/train_ops.h"

namespace swiftkv::cpu::scalar {

namespace {

constexpr int64_t kPieceElements = 16384;

}  // namespace

Status adamw(const AdamwParams& p, const Context& c) {
  const float lr = p.hyper[0], beta1 = p.hyper[1], beta2 = p.hyper[2], eps = p.hyper[3], decay = p.hyper[4];
  const float c1 = p.hyper[5], c2 = p.hyper[6], clip = p.hyper[7];
  const float squares = p.squares[0];
  const bool finite = std::isfinite(squares);
  const float factor = std::min(1.0f, clip / std::sqrt(squares));
  c.parallel_for(piece_count(p.rows, kPieceElements), [&](int64_t index, int) {
    const Piece piece = piece_of(index, kPieceElements, p.rows);
    if (finite) {
      for (int64_t i = piece.begin; i < piece.end; ++i) {
        const float g = p.grad[i] * factor;
        p.m[i] = beta1 * p.m[i] + (1.0f - beta1) * g;
        p.v[i] = beta2 * p.v[i] + (1.0f - beta2) * (g * g);
        const float decayed = p.x[i] - lr * decay * p.x[i];
        p.x[i] = decayed - lr * (p.m[i] / c1) / (std::sqrt(p.v[i] / c2) + eps);
      }
    }
    std::fill(p.grad + piece.begin, p.grad + piece.end, 0.0f);
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
