// Rounding of gradients for matrix products.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/simd/visit_float.h"
#include "backends/cpu/train/lanes.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kCastPiece = 16384;  // elements that a thread takes at once

template <class V>
static Status cast_rows(const CastRowsParams& p, const Context& c) {
  simd::visit_float(p.out.dtype, [&]<class T>(T) {
    const float* in = p.in;
    T* out = static_cast<T*>(p.out.data);
    const int64_t count = p.rows * p.dim;
    c.parallel_for(piece_count(count, kCastPiece), [&](int64_t index, int) {
      const Piece piece = piece_of(index, kCastPiece, count);
      for_lanes<V>(piece.begin, piece.end,
                   [&](int64_t i, int64_t n) { simd::store_first<V>(out + i, n, simd::load_first<V>(in + i, n)); });
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::train
