// qkv_rope_cache: the product whose heads are those of q, k and v of one cache.
#include "backends/cuda/heads_product.h"

namespace swiftkv::cuda {

namespace {

HeadsParams heads_of(const QkvRopeCacheParams& p) {
  return {.product = {p.rows, p.a, p.w, p.fp8_activations},
          .num_heads = p.num_heads,
          .num_kv_heads = p.num_kv_heads,
          .head_dim = p.head_dim,
          .num_groups = 1,
          .bias = p.bias,
          .rope = p.rope,
          .positions = p.positions,
          .slots = p.slots,
          .q = p.q,
          .caches = &p.cache,
          .q_norm = p.q_norm,
          .k_norm = p.k_norm,
          .eps = p.eps};
}

}  // namespace

size_t qkv_rope_cache_scratch(const QkvRopeCacheParams& p, const DeviceLimits&) {
  return heads_product_scratch(heads_of(p));
}

Status qkv_rope_cache(const QkvRopeCacheParams& p, const Context& c) {
  return heads_product("qkv_rope_cache", heads_of(p), c, c.scratch);
}

}  // namespace swiftkv::cuda
