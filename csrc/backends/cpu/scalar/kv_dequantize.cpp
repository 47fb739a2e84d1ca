// Rows of k and v back from the pages of one cache; a slot of -1 leaves its row as it is.
#include "backends/cpu/cache_layout.h"
#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::scalar {

namespace {

void load_head(DType dtype, const std::byte* row, float scale, int64_t hd, float* out) {
  for (int64_t i = 0; i < hd; ++i) {
    if (dtype == DType::f32)
      out[i] = reinterpret_cast<const float*>(row)[i];
    else if (dtype == DType::bf16)
      out[i] = to_f32(reinterpret_cast<const bf16*>(row)[i]);
    else
      out[i] = to_f32(reinterpret_cast<const fp8_e4m3*>(row)[i]) * scale;
  }
}

}  // namespace

Status kv_dequantize(const KvDequantizeParams& p, const Context& c) {
  const int64_t hd = p.cache.head_dim, hk = p.cache.num_kv_heads, element = dtype_bytes(p.cache.dtype);
  c.parallel_for(p.rows, [&](int64_t row, int) {
    if (p.slots[row] < 0) return;
    const int64_t block = p.slots[row] / kBlockTokens, offset = p.slots[row] % kBlockTokens;
    for (int64_t head = 0; head < hk; ++head) {
      const HeadBlock b = head_block(p.cache, block, head);
      load_head(p.cache.dtype, b.k + offset * hd * element, stored_k_scale(p.cache, b, head, offset), hd,
                p.k + (row * hk + head) * hd);
      load_head(p.cache.dtype, b.v + offset * hd * element, stored_v_scale(p.cache, b, head, offset), hd,
                p.v + (row * hk + head) * hd);
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
