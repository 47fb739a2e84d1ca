// Root-mean-square normalisation.
#include "backends/cpu/scalar/rms_norm.h"

#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

Status rms_norm(const RmsNormParams& p, const Context& c) {
  return visit_float(p.out.dtype, "out", [&]<class T>(T) {
    T* out = static_cast<T*>(p.out.data);
    c.parallel_for(p.rows, [&](int64_t i, int) { norm_row(p.x + i * p.dim, p.w, p.eps, p.dim, out + i * p.dim); });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
