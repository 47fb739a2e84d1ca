// The square of a gradient's norm.
#include "backends/cpu/pieces.h"
#include "backends/cpu/scalar/train_ops.h"

namespace swiftkv::cpu::scalar {

namespace {

constexpr int64_t kPieceElements = 65536;

}  // namespace

size_t sum_squares_scratch(const SumSquaresParams& p, int) {
  return static_cast<size_t>(piece_count(p.rows, kPieceElements)) * sizeof(double);
}

Status sum_squares(const SumSquaresParams& p, const Context& c) {
  const int64_t pieces = piece_count(p.rows, kPieceElements);
  double* partial = reinterpret_cast<double*>(c.scratch);
  c.parallel_for(pieces, [&](int64_t index, int) {
    const Piece piece = piece_of(index, kPieceElements, p.rows);
    double sum = 0.0;
    for (int64_t i = piece.begin; i < piece.end; ++i) sum += double{p.x[i]} * double{p.x[i]};
    partial[index] = sum;
  });
  double sum = 0.0;
  for (int64_t i = 0; i < pieces; ++i) sum += partial[i];
  p.out[0] = static_cast<float>(sum);
  return {};
}

}  // namespace swiftkv::cpu::scalar
