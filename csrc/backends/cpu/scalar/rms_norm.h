// Root-mean-square normalisation of one row.
#pragma once

#include <cmath>

#include "core/dtype.h"

namespace swiftkv::cpu::scalar {

// out = w * (x / sqrt(mean(x^2) + eps)), rounded once.
template <class Out>
void norm_row(const float* x, const float* w, float eps, int64_t dim, Out* out) {
  float sum = 0.0f;
  for (int64_t j = 0; j < dim; ++j) sum += x[j] * x[j];
  const float r = 1.0f / std::sqrt(sum / static_cast<float>(dim) + eps);
  for (int64_t j = 0; j < dim; ++j) out[j] = from_f32<Out>(w[j] * (x[j] * r));
}

}  // namespace swiftkv::cpu::scalar
