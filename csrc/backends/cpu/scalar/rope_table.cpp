// Cosines and sines of every position.
#include <cmath>

#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::scalar {

Status rope_table(const RopeTableParams& p, const Context& c) {
  const int64_t half = p.head_dim / 2;
  c.parallel_for(p.positions, [&](int64_t position, int) {
    float* row = p.table + position * p.head_dim;
    for (int64_t i = 0; i < half; ++i) {
      // Angles reach 1e5 rad: double keeps the range reduction exact enough for a correctly rounded float.
      const float angle = static_cast<float>(position) * p.inv_freq[i];
      row[i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      row[half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
