// The gradient of the MLP's gate.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/simd/visit_float.h"
#include "backends/cpu/train/lanes.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kSiluBackwardPiece = 4096;  // gates of one row that a thread takes at once

template <class V>
static Status silu_mul_backward(const SiluMulBackwardParams& p, const Context& c) {
  using F32 = typename V::F32;
  const int64_t pieces = piece_count(p.ff, kSiluBackwardPiece);
  simd::visit_float(p.gate_up.dtype, [&]<class G>(G) {
    simd::visit_float(p.dgate_up.dtype, [&]<class O>(O) {
      c.parallel_for(p.rows * pieces, [&](int64_t index, int) {
        const int64_t row = index / pieces;
        const Piece columns = piece_of(index % pieces, kSiluBackwardPiece, p.ff);
        const G* gate = static_cast<const G*>(p.gate_up.data) + row * 2 * p.ff;
        const G* up = gate + p.ff;
        const float* dout = p.dout + row * p.ff;
        O* dgate = static_cast<O*>(p.dgate_up.data) + row * 2 * p.ff;
        O* dup = dgate + p.ff;
        for_lanes<V>(columns.begin, columns.end, [&](int64_t j, int64_t n) {
          const F32 g = simd::load_first<V>(gate + j, n), d = simd::load_first<V>(dout + j, n);
          // The sigmoid and 1 - sigmoid, each without cancellation.
          const F32 e = simd::exp_lanes<V>(-simd::abs_lanes<V>(g));
          const F32 large = 1.0f / (1.0f + e), small = e * large;
          const F32 s = g < 0.0f ? small : large, rest = g < 0.0f ? large : small;
          simd::store_first<V>(dgate + j, n, d * simd::load_first<V>(up + j, n) * (s * (1.0f + g * rest)));
          simd::store_first<V>(dup + j, n, d * (g * s));
        });
      });
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::train
