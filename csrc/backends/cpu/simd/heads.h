// Epilogues of the products whose outputs are heads: bias, rotation, and the store of one row of one head.
#pragma once

#include "backends/cpu/simd/vec.h"
#include "backends/cpu/simd/visit_float.h"
#include "core/ops.h"

namespace swiftkv::cpu::simd {

template <class V>
static inline void add_bias(float* x, const float* bias, int64_t n) {
  for (int64_t i = 0; i < n; i += V::kLanes)
    store_first<V>(x + i, n - i, load_first<V>(x + i, n - i) + load_first<V>(bias + i, n - i));
}

// Rotate-half: dimension i pairs with i + hd/2; angles: cos[hd/2], then sin[hd/2]. Products are rounded before they
// are added, as in the scalar level.
template <class V>
static inline void rotate_head(float* x, const float* angles, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; i += V::kLanes) {
    const int64_t n = half - i;
    const typename V::F32 low = load_first<V>(x + i, n), high = load_first<V>(x + half + i, n);
    const typename V::F32 c = load_first<V>(angles + i, n), s = load_first<V>(angles + half + i, n);
    store_first<V>(x + i, n, low * c - high * s);
    store_first<V>(x + half + i, n, high * c + low * s);
  }
}

// out[offset + i] = x[i] in the activation's dtype.
template <class V>
static inline void store_activation(const Activation& out, int64_t offset, const float* x, int64_t n) {
  visit_float(out.dtype, [&]<class T>(T) {
    T* to = static_cast<T*>(out.data) + offset;
    for (int64_t i = 0; i < n; i += V::kLanes) store_first<V>(to + i, n - i, load_first<V>(x + i, n - i));
  });
}

}  // namespace swiftkv::cpu::simd
