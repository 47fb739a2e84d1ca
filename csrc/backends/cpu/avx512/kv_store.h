// Writes one head's K or V of one token to its place in a page: the only way into a cache on this level.
#pragma once

#include <immintrin.h>

#include "backends/cpu/avx512/fp8.h"
#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/cache_layout.h"
#include "core/ops.h"

namespace swiftkv::cpu::avx512 {

enum class KvHalf : int32_t { k = 0, v = 1 };

// to_bf16 of every lane, subnormals included (vcvtneps2bf16 drops them): what is in a page is the same at every level.
static inline __m256i exact_bf16(__m512 x) {
  const __m512i u = _mm512_castps_si512(x);
  const __m512i high = _mm512_srli_epi32(u, 16);
  const __m512i even = _mm512_and_epi32(high, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), even), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)));
}

// x [head_dim] of KV head `head` goes to slot = block * 16 + offset; a negative slot writes nothing.
static inline void store_kv(const KvCache& cache, int64_t slot, int64_t head, KvHalf half, const float* x) {
  if (slot < 0) return;
  const HeadBlock block = head_block(cache, slot / kBlockTokens, head);
  const int64_t hd = cache.head_dim, offset = slot % kBlockTokens;
  std::byte* row = (half == KvHalf::k ? block.k : block.v) + offset * hd * dtype_bytes(cache.dtype);
  if (cache.dtype == DType::fp8_e4m3) {
    if (cache.scales == KvScales::dynamic)
      (half == KvHalf::k ? block.k_scale : block.v_scale)[offset] = row_fp8_scale(x, hd);
    const float scale =
        half == KvHalf::k ? stored_k_scale(cache, block, head, offset) : stored_v_scale(cache, block, head, offset);
    quantize_fp8(x, scale, hd, reinterpret_cast<uint8_t*>(row));
  } else if (cache.dtype == DType::bf16) {
    auto* out = reinterpret_cast<uint16_t*>(row);
    for (int64_t i = 0; i < hd; i += 16) {
      const __mmask16 m = first_lanes(hd - i);
      _mm256_mask_storeu_epi16(out + i, m, exact_bf16(load_lanes(x + i, m)));
    }
  } else {
    auto* out = reinterpret_cast<float*>(row);
    for (int64_t i = 0; i < hd; i += 16) {
      const __mmask16 m = first_lanes(hd - i);
      store_lanes(out + i, m, load_lanes(x + i, m));
    }
  }
}

}  // namespace swiftkv::cpu::avx512
