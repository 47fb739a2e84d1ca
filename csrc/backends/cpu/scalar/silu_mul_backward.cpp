// The gradient of the MLP's gate.
#include <cmath>

#include "backends/cpu/scalar/train_ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

Status silu_mul_backward(const SiluMulBackwardParams& p, const Context& c) {
  return visit_float(p.gate_up.dtype, "gate_up", [&]<class G>(G) {
    return visit_float(p.dgate_up.dtype, "dgate_up", [&]<class O>(O) {
      c.parallel_for(p.rows, [&](int64_t row, int) {
        const G* gate = static_cast<const G*>(p.gate_up.data) + row * 2 * p.ff;
        const G* up = gate + p.ff;
        const float* dout = p.dout + row * p.ff;
        O* dgate = static_cast<O*>(p.dgate_up.data) + row * 2 * p.ff;
        O* dup = dgate + p.ff;
        for (int64_t j = 0; j < p.ff; ++j) {
          const float g = to_f32(gate[j]);
          // The sigmoid and 1 - sigmoid, each without cancellation.
          const float e = std::exp(-std::fabs(g));
          const float large = 1.0f / (1.0f + e), small = e / (1.0f + e);
          const float s = g < 0.0f ? small : large, rest = g < 0.0f ? large : small;
          dgate[j] = from_f32<O>(dout[j] * to_f32(up[j]) * (s * (1.0f + g * rest)));
          dup[j] = from_f32<O>(dout[j] * (g * s));
        }
      });
      return Status{};
    });
  });
}

}  // namespace swiftkv::cpu::scalar
