// q_rope: the product whose heads are those of q.
#include "backends/cuda/heads_product.h"

namespace swiftkv::cuda {

namespace {

HeadsParams heads_of(const QRopeParams& p) {
  return {.product = {p.rows, p.a, p.w, p.fp8_activations},
          .num_heads = p.num_heads,
          .num_kv_heads = 0,
          .head_dim = p.head_dim,
          .num_groups = 0,
          .bias = p.bias,
          .rope = p.rope,
          .positions = p.positions,
          .slots = nullptr,
          .q = p.q,
          .caches = nullptr,
          .q_norm = p.q_norm,
          .k_norm = nullptr,
          .eps = p.eps};
}

}  // namespace

size_t q_rope_scratch(const QRopeParams& p, const DeviceLimits&) {
  return heads_product_scratch(heads_of(p));
}

Status q_rope(const QRopeParams& p, const Context& c) {
  return heads_product("q_rope", heads_of(p), c, c.scratch);
}

}  // namespace swiftkv::cuda
