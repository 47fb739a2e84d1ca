// The product whose outputs are heads: what qkv_rope_cache, q_rope and swiftkv_project have in common.
#pragma once

#include "backends/cuda/product.h"

namespace swiftkv::cuda {

struct HeadsParams {
  ProductParams product;  // n: (Hq + groups * 2 Hk) hd, q heads, then of every group its k heads and its v heads
  int32_t num_heads, num_kv_heads, head_dim, num_groups;
  const float* bias;  // [n] or null
  const float* rope;
  const int32_t* positions;
  const int32_t* slots;   // null without groups
  Activation q;           // {} without heads of q
  const KvCache* caches;  // [groups]; host memory
  const float* q_norm;    // [hd] or null
  const float* k_norm;    // [groups, hd] or null
  float eps;
};

size_t heads_product_scratch(const HeadsParams& p);

// `name`: of the op, for launches.
Status heads_product(const char* name, const HeadsParams& p, const Context& c, std::byte* scratch);

}  // namespace swiftkv::cuda
