// Writes one head's K or V of one token to its place in a page: the only way into a cache on this level.
#pragma once

#include <immintrin.h>

#include "backends/cpu/avx512/fp8.h"
#include "backends/cpu/avx512/lanes.h"
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
static inline void store_kv(const KvCache& cache, int32_t slot, int32_t head, KvHalf half, const float* x) {
  if (slot < 0) return;
  const int64_t hd = cache.head_dim;
  const int64_t offset = slot % kBlockTokens;
  std::byte* base = cache.data + (slot / kBlockTokens) * cache.block_bytes + head * cache.head_bytes;
  const int64_t row = static_cast<int64_t>(half) * kBlockTokens + offset;
  switch (cache.dtype) {
    case DType::bf16: {
      uint16_t* out = reinterpret_cast<uint16_t*>(base) + row * hd;
      for (int64_t i = 0; i < hd; i += 16) {
        const __mmask16 m = first_lanes(hd - i);
        _mm256_mask_storeu_epi16(out + i, m, exact_bf16(_mm512_maskz_loadu_ps(m, x + i)));
      }
      return;
    }
    case DType::fp8_e4m3: {
      uint8_t* codes = reinterpret_cast<uint8_t*>(base) + row * hd;
      float scale;
      if (cache.scales == KvScales::dynamic) {
        scale = fp8_scale(x, hd);
        reinterpret_cast<float*>(base + 2 * kBlockTokens * hd)[row] = scale;
      } else {
        scale = (half == KvHalf::k ? cache.k_scale : cache.v_scale)[head];
      }
      quantize_fp8(x, scale, hd, codes);
      return;
    }
    default: {
      float* out = reinterpret_cast<float*>(base) + row * hd;
      for (int64_t i = 0; i < hd; i += 16) {
        const __mmask16 m = first_lanes(hd - i);
        _mm512_mask_storeu_ps(out + i, m, _mm512_maskz_loadu_ps(m, x + i));
      }
      return;
    }
  }
}

}  // namespace swiftkv::cpu::avx512
