// Rows of k and v to the pages of one cache.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/simd/kv_store.h"

namespace swiftkv::cpu::simd {

template <class V>
static Status kv_quantize(const KvQuantizeParams& p, const Context& c) {
  const int64_t hd = p.cache.head_dim, heads = p.cache.num_kv_heads;
  c.parallel_for(p.rows, [&](int64_t row, int) {
    for (int64_t head = 0; head < heads; ++head) {
      store_kv<V>(p.cache, p.slots[row], head, KvHalf::k, p.k + (row * heads + head) * hd);
      store_kv<V>(p.cache, p.slots[row], head, KvHalf::v, p.v + (row * heads + head) * hd);
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::simd
