// The gate of the MLP.
#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/avx512/visit_float.h"

namespace swiftkv::cpu::avx512 {

namespace {

constexpr int64_t kPieceElements = 4096;  // outputs of one row that a thread takes at once

// x / (1 + exp(-x)) with the exponential of -|x| alone, which cannot overflow: for negative x both sides of the
// fraction are multiplied by exp(x). NaN stays NaN.
inline __m512 silu(__m512 x) {
  const __m512 e = exp_lanes(_mm512_or_ps(x, _mm512_set1_ps(-0.0f)));
  const __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
  const __m512 top = _mm512_mask_mul_ps(x, negative, x, e);
  return _mm512_div_ps(top, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

}  // namespace

Status silu_mul(const SiluMulParams& p, const Context& c) {
  const int64_t pieces = (p.ff + kPieceElements - 1) / kPieceElements;
  visit_float(p.gate_up.dtype, [&]<class G>(G) {
    visit_float(p.out.dtype, [&]<class O>(O) {
      c.parallel_for(p.rows * pieces, [&](int64_t piece, int) {
        const int64_t row = piece / pieces, begin = piece % pieces * kPieceElements;
        const int64_t end = begin + kPieceElements < p.ff ? begin + kPieceElements : p.ff;
        const G* gate = static_cast<const G*>(p.gate_up.data) + row * 2 * p.ff;
        O* out = static_cast<O*>(p.out.data) + row * p.ff;
        for (int64_t i = begin; i < end; i += 16) {
          const __mmask16 m = first_lanes(end - i);
          store_lanes(out + i, m, _mm512_mul_ps(silu(load_lanes(gate + i, m)), load_lanes(gate + p.ff + i, m)));
        }
      });
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::avx512
