// Query projection of a later layer, normed where the model does that, and rotated.
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/scalar/product.h"
#include "backends/cpu/scalar/rms_norm.h"
#include "backends/cpu/scalar/rotate.h"
#include "backends/cpu/scalar/worker_scratch.h"

namespace swiftkv::cpu::scalar {

size_t q_rope_scratch(const QRopeParams& p, int threads) {
  return worker_bytes(threads, static_cast<size_t>(p.head_dim));
}

Status q_rope(const QRopeParams& p, const Context& c) {
  return visit_product(p.a.dtype, p.w.dtype, [&]<class A, class W>(A, W) {
    return visit_float(p.q.dtype, "q", [&]<class Q>(Q) {
      const A* a = static_cast<const A*>(p.a.data);
      Q* q = static_cast<Q*>(p.q.data);
      const int64_t hd = p.head_dim, hq = p.num_heads;
      c.parallel_for(p.rows * hq, [&](int64_t piece, int worker) {
        const int64_t row = piece / hq, head = piece % hq;
        float* x = worker_floats(c, worker, static_cast<size_t>(hd));
        outputs<A, W>(a + row * p.w.k, p.w, p.bias, head * hd, (head + 1) * hd, x, p.fp8_activations);
        if (p.q_norm != nullptr) norm_row(x, p.q_norm, p.eps, hd, x);
        rotate(x, p.rope + int64_t{p.positions[row]} * hd, hd);
        for (int64_t i = 0; i < hd; ++i) q[piece * hd + i] = from_f32<Q>(x[i]);
      });
      return Status{};
    });
  });
}

}  // namespace swiftkv::cpu::scalar
