// The gate of the MLP.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/simd/vec.h"
#include "backends/cpu/simd/visit_float.h"

namespace swiftkv::cpu::simd {

inline constexpr int64_t kSiluPiece = 4096;  // outputs of one row that a thread takes at once

// x / (1 + exp(-x)) with the exponential of -|x| alone, which cannot overflow: for negative x both sides of the
// fraction are multiplied by exp(x). NaN stays NaN.
template <class V>
static inline typename V::F32 silu(typename V::F32 x) {
  const typename V::F32 e = exp_lanes<V>(-abs_lanes<V>(x));
  return (x < 0.0f ? x * e : x) / (1.0f + e);
}

template <class V>
static Status silu_mul(const SiluMulParams& p, const Context& c) {
  const int64_t pieces = (p.ff + kSiluPiece - 1) / kSiluPiece;
  visit_float(p.gate_up.dtype, [&]<class G>(G) {
    visit_float(p.out.dtype, [&]<class O>(O) {
      c.parallel_for(p.rows * pieces, [&](int64_t piece, int) {
        const int64_t row = piece / pieces, begin = piece % pieces * kSiluPiece;
        const int64_t end = begin + kSiluPiece < p.ff ? begin + kSiluPiece : p.ff;
        const G* gate = static_cast<const G*>(p.gate_up.data) + row * 2 * p.ff;
        O* out = static_cast<O*>(p.out.data) + row * p.ff;
        for (int64_t i = begin; i < end; i += V::kLanes)
          store_first<V>(out + i, end - i,
                         silu<V>(load_first<V>(gate + i, end - i)) * load_first<V>(gate + p.ff + i, end - i));
      });
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::simd
