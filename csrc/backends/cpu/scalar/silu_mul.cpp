// The gate of the MLP.
#include <cmath>

#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

Status silu_mul(const SiluMulParams& p, const Context& c) {
  return visit_float(p.gate_up.dtype, "gate_up", [&]<class G>(G) {
    return visit_float(p.out.dtype, "out", [&]<class O>(O) {
      c.parallel_for(p.rows, [&](int64_t row, int) {
        const G* gate = static_cast<const G*>(p.gate_up.data) + row * 2 * p.ff;
        const G* up = gate + p.ff;
        O* out = static_cast<O*>(p.out.data) + row * p.ff;
        for (int64_t j = 0; j < p.ff; ++j) {
          const float g = to_f32(gate[j]);
          out[j] = from_f32<O>(g / (1.0f + std::exp(-g)) * to_f32(up[j]));
        }
      });
      return Status{};
    });
  });
}

}  // namespace swiftkv::cpu::scalar
