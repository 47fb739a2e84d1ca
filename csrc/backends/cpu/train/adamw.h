// One step of AdamW: gradient, moments and parameters pass through once.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/train/lanes.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kAdamwPiece = 16384;  // elements that a thread takes at once

template <class V>
static Status adamw(const AdamwParams& p, const Context& c) {
  using F32 = typename V::F32;
  const float lr = p.hyper[0], decay = p.hyper[4], clip = p.hyper[7];
  const float squares = p.squares[0], limit = clip / __builtin_sqrtf(squares);
  const bool finite = squares - squares == 0.0f;
  const F32 factor = simd::set<V>(limit < 1.0f ? limit : 1.0f);
  const F32 beta1 = simd::set<V>(p.hyper[1]), rest1 = simd::set<V>(1.0f - p.hyper[1]);
  const F32 beta2 = simd::set<V>(p.hyper[2]), rest2 = simd::set<V>(1.0f - p.hyper[2]);
  const F32 eps = simd::set<V>(p.hyper[3]), decay_step = simd::set<V>(lr * decay);
  // Both corrections outside of the loop, which has one division left: lr / c1, and sqrt(v / c2) = sqrt(v) / sqrt(c2).
  const F32 step = simd::set<V>(lr / p.hyper[5]), to_root = simd::set<V>(1.0f / __builtin_sqrtf(p.hyper[6]));
  c.parallel_for(piece_count(p.rows, kAdamwPiece), [&](int64_t index, int) {
    const Piece piece = piece_of(index, kAdamwPiece, p.rows);
    float *grad = p.grad, *m = p.m, *v = p.v, *x = p.x;
    if (finite) {
      for_lanes<V>(piece.begin, piece.end, [=](int64_t i, int64_t n) {
        const F32 g = simd::load_first<V>(grad + i, n) * factor, before = simd::load_first<V>(x + i, n);
        const F32 mean = V::fmadd(beta1, simd::load_first<V>(m + i, n), rest1 * g);
        const F32 square = V::fmadd(beta2, simd::load_first<V>(v + i, n), rest2 * (g * g));
        const F32 root = V::fmadd(V::sqrt(square), to_root, eps);
        simd::store_first<V>(grad + i, n, F32{});
        simd::store_first<V>(m + i, n, mean);
        simd::store_first<V>(v + i, n, square);
        simd::store_first<V>(x + i, n, before - decay_step * before - step * mean / root);
      });
    } else {
      __builtin_memset(grad + piece.begin, 0, static_cast<size_t>(piece.end - piece.begin) * sizeof(float));
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::train
