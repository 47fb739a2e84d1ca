// Rows of k and v back from the pages of one cache; a slot of -1 leaves its row as it is.
#include "backends/cpu/avx512/fp8.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/cache_layout.h"

namespace swiftkv::cpu::avx512 {

namespace {

// Row `offset` of one part (K or V) of a block.
void load_head(const KvCache& cache, const std::byte* part, int64_t offset, float scale, float* out) {
  const int64_t hd = cache.head_dim, first = offset * hd;
  for (int64_t i = 0; i < hd; i += 16) {
    const __mmask16 m = first_lanes(hd - i);
    __m512 v;
    switch (cache.dtype) {
      case DType::bf16: v = load_lanes(reinterpret_cast<const bf16*>(part) + first + i, m); break;
      case DType::fp8_e4m3:
        v = _mm512_mul_ps(decode_fp8(_mm_maskz_loadu_epi8(m, part + first + i)), _mm512_set1_ps(scale));
        break;
      default: v = load_lanes(reinterpret_cast<const float*>(part) + first + i, m);
    }
    store_lanes(out + i, m, v);
  }
}

}  // namespace

Status kv_dequantize(const KvDequantizeParams& p, const Context& c) {
  const int64_t hd = p.cache.head_dim, heads = p.cache.num_kv_heads;
  c.parallel_for(p.rows, [&](int64_t row, int) {
    if (p.slots[row] < 0) return;
    const int64_t block = p.slots[row] / kBlockTokens, offset = p.slots[row] % kBlockTokens;
    for (int64_t head = 0; head < heads; ++head) {
      const HeadBlock b = head_block(p.cache, block, head);
      const int64_t at = (row * heads + head) * hd;
      load_head(p.cache, b.k, offset, stored_k_scale(p.cache, b, head, offset), p.k + at);
      load_head(p.cache, b.v, offset, stored_v_scale(p.cache, b, head, offset), p.v + at);
    }
  });
  return {};
}

}  // namespace swiftkv::cpu::avx512
