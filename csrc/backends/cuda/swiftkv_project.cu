// swiftkv_project: the normalised rows once, then one product whose heads are K and V of every later group, straight to
// their pages.
#include "backends/cuda/heads_product.h"

namespace swiftkv::cuda {

namespace {

size_t z_bytes(const SwiftkvProjectParams& p) {
  return aligned_bytes(p.rows * p.dim * dtype_bytes(z_dtype(p)));
}

HeadsParams heads_of(const SwiftkvProjectParams& p, void* z) {
  return {.product = {p.rows, {z, z_dtype(p)}, p.w, p.fp8_activations},
          .num_heads = 0,
          .num_kv_heads = p.num_kv_heads,
          .head_dim = p.head_dim,
          .num_groups = p.num_groups,
          .bias = p.bias,
          .rope = p.rope,
          .positions = p.positions,
          .slots = p.slots,
          .q = {},
          .caches = p.caches,
          .q_norm = nullptr,
          .k_norm = p.k_norm,
          .eps = p.eps};
}

}  // namespace

size_t swiftkv_project_scratch(const SwiftkvProjectParams& p, const DeviceLimits&) {
  return z_bytes(p) + heads_product_scratch(heads_of(p, nullptr));
}

Status swiftkv_project(const SwiftkvProjectParams& p, const Context& c) {
  if (p.rows == 0) return {};
  const Status normed = rms_norm({p.rows, p.dim, p.x, p.norm, p.eps, {c.scratch, z_dtype(p)}}, c);
  if (!normed.ok()) return normed;
  return heads_product("swiftkv_project", heads_of(p, c.scratch), c, c.scratch + z_bytes(p));
}

}  // namespace swiftkv::cuda
