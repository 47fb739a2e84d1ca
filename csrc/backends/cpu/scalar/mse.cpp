// The squared distance of rows to their targets, and its gradient.
#include "backends/cpu/scalar/train_ops.h"

namespace swiftkv::cpu::scalar {

Status mse(const MseParams& p, const Context& c) {
  c.parallel_for(p.rows, [&](int64_t i, int) {
    const float* x = p.x + i * p.dim;
    const float* target = p.target + i * p.dim;
    float* dx = p.dx + i * p.dim;
    const float weight = p.weights[i];
    float sum = 0.0f;
    for (int64_t j = 0; j < p.dim; ++j) {
      const float difference = x[j] - target[j];
      sum += difference * difference;
      dx[j] += 2.0f * weight * difference;
    }
    p.loss[i] = weight * sum;
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
