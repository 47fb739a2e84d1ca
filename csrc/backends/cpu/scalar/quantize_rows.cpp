// Activations to fp8 codes with one scale per row.
#include <algorithm>
#include <cmath>

#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

Status quantize_rows(const QuantizeRowsParams& p, const Context& c) {
  return visit_float(p.a.dtype, "a", [&]<class T>(T) {
    c.parallel_for(p.rows, [&](int64_t row, int) {
      const T* a = static_cast<const T*>(p.a.data) + row * p.dim;
      float max = 0.0f;
      for (int64_t j = 0; j < p.dim; ++j) max = std::max(max, std::fabs(to_f32(a[j])));
      const float scale = fp8_scale(max);
      for (int64_t j = 0; j < p.dim; ++j) p.codes[row * p.dim + j] = to_fp8_e4m3(to_f32(a[j]) / scale).bits;
      p.scales[row] = scale;
    });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
