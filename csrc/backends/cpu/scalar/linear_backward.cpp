// The gradients of a product's weights and bias: rows in ascending order.
#include "backends/cpu/scalar/train_ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

Status linear_backward(const LinearBackwardParams& p, const Context& c) {
  return visit_float(p.a.dtype, "activations", [&]<class T>(T) {
    const T* a = static_cast<const T*>(p.a.data);
    const T* dy = static_cast<const T*>(p.dy.data);
    c.parallel_for(p.n, [&](int64_t j, int) {
      float* dw = p.dw + j * p.k;
      for (int64_t i = 0; i < p.rows; ++i) {
        const float d = to_f32(dy[i * p.n + j]);
        for (int64_t m = 0; m < p.k; ++m) dw[m] += d * to_f32(a[i * p.k + m]);
        if (p.dbias != nullptr) p.dbias[j] += d;
      }
    });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
