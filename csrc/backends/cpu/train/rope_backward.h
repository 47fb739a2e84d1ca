// The rotation undone: that of the opposite angle.
#pragma once

#include "backends/cpu/pieces.h"
#include "backends/cpu/simd/vec.h"
#include "backends/cpu/simd/visit_float.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

inline constexpr int64_t kRopePiece = 8;  // rows that a thread takes at once

template <class V, class T>
static void rotate_back(const float* d, const float* cos_sin, int64_t head_dim, T* out) {
  using F32 = typename V::F32;
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; i += V::kLanes) {
    const int64_t n = half - i;
    const F32 cos = simd::load_first<V>(cos_sin + i, n), sin = simd::load_first<V>(cos_sin + half + i, n);
    const F32 a = simd::load_first<V>(d + i, n), b = simd::load_first<V>(d + half + i, n);
    simd::store_first<V>(out + i, n, a * cos + b * sin);
    simd::store_first<V>(out + half + i, n, b * cos - a * sin);
  }
}

template <class V, class T>
static void rope_row_backward(const RopeBackwardParams& p, int64_t row, T* out) {
  const int64_t hd = p.head_dim, kv = p.num_kv_heads * hd;
  const float* cos_sin = p.rope + p.positions[row] * hd;
  const float* dq = p.dq + row * p.num_heads * hd;
  for (int64_t h = 0; h < p.num_heads; ++h, dq += hd, out += hd) rotate_back<V>(dq, cos_sin, hd, out);
  const float* dkv = p.dkv + row * p.num_groups * 2 * kv;
  for (int64_t g = 0; g < p.num_groups; ++g) {
    for (int64_t h = 0; h < p.num_kv_heads; ++h, dkv += hd, out += hd) rotate_back<V>(dkv, cos_sin, hd, out);
    for (int64_t i = 0; i < kv; i += V::kLanes)
      simd::store_first<V>(out + i, kv - i, simd::load_first<V>(dkv + i, kv - i));
    dkv += kv;
    out += kv;
  }
}

template <class V>
static Status rope_backward(const RopeBackwardParams& p, const Context& c) {
  const int64_t width = (p.num_heads + int64_t{p.num_groups} * 2 * p.num_kv_heads) * p.head_dim;
  simd::visit_float(p.out.dtype, [&]<class T>(T) {
    c.parallel_for(piece_count(p.rows, kRopePiece), [&](int64_t index, int) {
      const Piece rows = piece_of(index, kRopePiece, p.rows);
      for (int64_t row = rows.begin; row < rows.end; ++row)
        rope_row_backward<V>(p, row, static_cast<T*>(p.out.data) + row * width);
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::train
