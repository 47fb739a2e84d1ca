// SingleInputKV: keys and values of all later groups from one normalised vector per token.
#include "backends/cpu/scalar/kv_store.h"
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/scalar/product.h"
#include "backends/cpu/scalar/rms_norm.h"
#include "backends/cpu/scalar/rotate.h"
#include "backends/cpu/scalar/worker_scratch.h"

namespace swiftkv::cpu::scalar {

namespace {

size_t z_bytes(const SwiftkvProjectParams& p) {
  return aligned_bytes(static_cast<size_t>(p.rows * p.dim * dtype_bytes(z_dtype(p))));
}

}  // namespace

size_t swiftkv_project_scratch(const SwiftkvProjectParams& p, int threads) {
  return z_bytes(p) + worker_bytes(threads, static_cast<size_t>(p.head_dim));
}

Status swiftkv_project(const SwiftkvProjectParams& p, const Context& c) {
  return visit_product(z_dtype(p), p.w.dtype, [&]<class Z, class W>(Z, W) {
    Z* z = reinterpret_cast<Z*>(c.scratch);
    c.parallel_for(p.rows,
                   [&](int64_t row, int) { norm_row(p.x + row * p.dim, p.norm, p.eps, p.dim, z + row * p.dim); });
    const int64_t hd = p.head_dim, hk = p.num_kv_heads, heads = p.num_groups * 2 * hk;
    c.parallel_for(p.rows * heads, [&](int64_t piece, int worker) {
      const int64_t row = piece / heads, head = piece % heads;
      if (p.slots[row] < 0) return;
      float* x = worker_floats(c, worker, static_cast<size_t>(hd), z_bytes(p));
      outputs<Z, W>(z + row * p.dim, p.w, p.bias, head * hd, (head + 1) * hd, x, p.fp8_activations);
      const int64_t group = head / (2 * hk);
      const KvCache& cache = p.caches[group];
      const int64_t within = head % (2 * hk);
      if (within < hk) {
        if (p.k_norm != nullptr) norm_row(x, p.k_norm + group * hd, p.eps, hd, x);
        rotate(x, p.rope + int64_t{p.positions[row]} * hd, hd);
        store_head(cache, p.slots[row], within, KvPart::k, x);
      } else {
        store_head(cache, p.slots[row], within - hk, KvPart::v, x);
      }
    });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
