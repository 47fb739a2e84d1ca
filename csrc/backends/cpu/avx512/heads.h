// Epilogues of the products whose outputs are heads: bias, rotation, and the store of one row of one head.
#pragma once

#include <immintrin.h>

#include "backends/cpu/avx512/lanes.h"
#include "core/ops.h"

namespace swiftkv::cpu::avx512 {

static inline void add_bias(float* x, const float* bias, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    store_lanes(x + i, m, _mm512_add_ps(load_lanes(x + i, m), load_lanes(bias + i, m)));
  }
}

// Rotate-half: dimension i pairs with i + hd/2; angles: cos[hd/2], then sin[hd/2]. Products are rounded before they
// are added, as in the scalar level.
static inline void rotate_head(float* x, const float* angles, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; i += 16) {
    const __mmask16 m = first_lanes(half - i);
    const __m512 low = load_lanes(x + i, m);
    const __m512 high = load_lanes(x + half + i, m);
    const __m512 c = load_lanes(angles + i, m);
    const __m512 s = load_lanes(angles + half + i, m);
    store_lanes(x + i, m, _mm512_sub_ps(_mm512_mul_ps(low, c), _mm512_mul_ps(high, s)));
    store_lanes(x + half + i, m, _mm512_add_ps(_mm512_mul_ps(high, c), _mm512_mul_ps(low, s)));
  }
}

// out[offset + i] = x[i] in the activation's dtype.
static inline void store_activation(const Activation& out, int64_t offset, const float* x, int64_t n) {
  if (out.dtype == DType::bf16) {
    bf16* to = static_cast<bf16*>(out.data) + offset;
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 m = first_lanes(n - i);
      store_lanes(to + i, m, load_lanes(x + i, m));
    }
  } else {
    float* to = static_cast<float*>(out.data) + offset;
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 m = first_lanes(n - i);
      store_lanes(to + i, m, load_lanes(x + i, m));
    }
  }
}

}  // namespace swiftkv::cpu::avx512
