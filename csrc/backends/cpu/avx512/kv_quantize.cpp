// Rows of k and v to the pages of one cache.
#include "backends/cpu/avx512/kv_store.h"
#include "backends/cpu/avx512/ops.h"

namespace swiftkv::cpu::avx512 {

Status kv_quantize(const KvQuantizeParams& p, const Context& c) {
  const int64_t hd = p.cache.head_dim, heads = p.cache.num_kv_heads;
  c.parallel_for(p.rows, [&](int64_t row, int) {
    for (int32_t head = 0; head < heads; ++head) {
      store_kv(p.cache, p.slots[row], head, KvHalf::k, p.k + (row * heads + head) * hd);
      store_kv(p.cache, p.slots[row], head, KvHalf::v, p.v + (row * heads + head) * hd);
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::avx512
