// Rounding of gradients for matrix products.
#include "backends/cpu/pieces.h"
#include "backends/cpu/scalar/train_ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

namespace {

constexpr int64_t kPieceElements = 16384;

}  // namespace

Status cast_rows(const CastRowsParams& p, const Context& c) {
  return visit_float(p.out.dtype, "out", [&]<class T>(T) {
    T* out = static_cast<T*>(p.out.data);
    const int64_t count = p.rows * p.dim;
    c.parallel_for(piece_count(count, kPieceElements), [&](int64_t index, int) {
      const Piece piece = piece_of(index, kPieceElements, count);
      for (int64_t i = piece.begin; i < piece.end; ++i) out[i] = from_f32<T>(p.in[i]);
    });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
