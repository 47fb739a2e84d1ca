// Rows by index.
#include <cstring>

#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::scalar {

Status gather_rows(const GatherRowsParams& p, const Context& c) {
  c.parallel_for(p.rows, [&](int64_t i, int) {
    std::memcpy(p.out + i * p.dim, p.x + int64_t{p.index[i]} * p.dim, static_cast<size_t>(p.dim) * sizeof(float));
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
