// Reads an intermediate tensor back as f32.
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

Status copy_rows(const CopyRowsParams& p, const Context& c) {
  return visit_float(p.in.dtype, "in", [&]<class T>(T) {
    const T* in = static_cast<const T*>(p.in.data);
    c.parallel_for(p.rows, [&](int64_t row, int) {
      for (int64_t j = row * p.dim; j < (row + 1) * p.dim; ++j) p.out[j] = to_f32(in[j]);
    });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
