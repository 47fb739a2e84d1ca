// RMSNorm over rows.
#include "backends/cpu/avx512/rms_norm.h"

#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/avx512/visit_float.h"

namespace swiftkv::cpu::avx512 {

Status rms_norm(const RmsNormParams& p, const Context& c) {
  visit_float(p.out.dtype, [&]<class Out>(Out) {
    Out* out = static_cast<Out*>(p.out.data);
    c.parallel_for(p.rows,
                   [&](int64_t row, int) { norm_row(p.x + row * p.dim, p.w, p.eps, p.dim, out + row * p.dim); });
  });
  return {};
}

}  // namespace swiftkv::cpu::avx512
