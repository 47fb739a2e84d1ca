// Reads an intermediate tensor back as f32.
#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/avx512/visit_float.h"

namespace swiftkv::cpu::avx512 {

Status copy_rows(const CopyRowsParams& p, const Context& c) {
  visit_float(p.in.dtype, [&]<class T>(T) {
    c.parallel_for(p.rows, [&](int64_t row, int) {
      const T* in = static_cast<const T*>(p.in.data) + row * p.dim;
      float* out = p.out + row * p.dim;
      for (int64_t i = 0; i < p.dim; i += 16) {
        const __mmask16 m = first_lanes(p.dim - i);
        store_lanes(out + i, m, load_lanes(in + i, m));
      }
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::avx512
