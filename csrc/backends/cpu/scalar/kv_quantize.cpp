// Rows of k and v to the pages of one cache.
#include "backends/cpu/scalar/kv_store.h"
#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::scalar {

Status kv_quantize(const KvQuantizeParams& p, const Context& c) {
  const int64_t hd = p.cache.head_dim, hk = p.cache.num_kv_heads;
  c.parallel_for(p.rows, [&](int64_t row, int) {
    if (p.slots[row] < 0) return;
    for (int64_t head = 0; head < hk; ++head) {
      store_head(p.cache, p.slots[row], head, KvPart::k, p.k + (row * hk + head) * hd);
      store_head(p.cache, p.slots[row], head, KvPart::v, p.v + (row * hk + head) * hd);
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
