// Query, key and value projections of a layer: q and k are normed (where the model does that) and rotated; q is stored,
// k and v go to the pages.
#include "backends/cpu/scalar/kv_store.h"
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/scalar/product.h"
#include "backends/cpu/scalar/rms_norm.h"
#include "backends/cpu/scalar/rotate.h"
#include "backends/cpu/scalar/worker_scratch.h"

namespace swiftkv::cpu::scalar {

size_t qkv_rope_cache_scratch(const QkvRopeCacheParams& p, int threads) {
  return worker_bytes(threads, static_cast<size_t>(p.head_dim));
}

Status qkv_rope_cache(const QkvRopeCacheParams& p, const Context& c) {
  return visit_product(p.a.dtype, p.w.dtype, [&]<class A, class W>(A, W) {
    return visit_float(p.q.dtype, "q", [&]<class Q>(Q) {
      const A* a = static_cast<const A*>(p.a.data);
      Q* q = static_cast<Q*>(p.q.data);
      const int64_t hd = p.head_dim, hq = p.num_heads, hk = p.num_kv_heads, heads = hq + 2 * hk;
      c.parallel_for(p.rows * heads, [&](int64_t piece, int worker) {
        const int64_t row = piece / heads, head = piece % heads;
        if (head >= hq && p.slots[row] < 0) return;
        float* x = worker_floats(c, worker, static_cast<size_t>(hd));
        outputs<A, W>(a + row * p.w.k, p.w, p.bias, head * hd, (head + 1) * hd, x, p.fp8_activations);
        const float* norm = head < hq ? p.q_norm : head < hq + hk ? p.k_norm : nullptr;
        if (norm != nullptr) norm_row(x, norm, p.eps, hd, x);
        if (head < hq + hk) rotate(x, p.rope + int64_t{p.positions[row]} * hd, hd);
        if (head < hq)
          for (int64_t i = 0; i < hd; ++i) q[(row * hq + head) * hd + i] = from_f32<Q>(x[i]);
        else if (head < hq + hk)
          store_head(p.cache, p.slots[row], head - hq, KvPart::k, x);
        else
          store_head(p.cache, p.slots[row], head - hq - hk, KvPart::v, x);
      });
      return Status{};
    });
  });
}

}  // namespace swiftkv::cpu::scalar
