// Writes one head's K or V of one token to its place in a page: the only way into a cache on these levels.
#pragma once

#include "backends/cpu/cache_layout.h"
#include "backends/cpu/simd/vec.h"
#include "core/ops.h"

namespace swiftkv::cpu::simd {

enum class KvHalf : int32_t { k = 0, v = 1 };

// The dynamic scale of n values, of their largest magnitude. NaN is passed over.
template <class V>
static inline float row_fp8_scale(const float* x, int64_t n) {
  typename V::F32 most{};
  for (int64_t i = 0; i < n; i += V::kLanes) {
    const typename V::F32 v = abs_lanes<V>(load_first<V>(x + i, n - i));
    most = v > most ? v : most;
  }
  return fp8_scale(max_lanes<V>(most));
}

// out[i] = x[i] / scale in the cache's type.
template <class V, class T>
static inline void store_row(const float* x, float scale, int64_t n, std::byte* out) {
  T* to = reinterpret_cast<T*>(out);
  for (int64_t i = 0; i < n; i += V::kLanes) {
    typename V::F32 v = load_first<V>(x + i, n - i);
    if constexpr (sizeof(T) == 1) v = v / scale;
    store_first<V>(to + i, n - i, v);
  }
}

// x [head_dim] of KV head `head` goes to slot = block * 16 + offset; a negative slot writes nothing.
template <class V>
static inline void store_kv(const KvCache& cache, int64_t slot, int64_t head, KvHalf half, const float* x) {
  if (slot < 0) return;
  const HeadBlock block = head_block(cache, slot / kBlockTokens, head);
  const int64_t hd = cache.head_dim, offset = slot % kBlockTokens;
  std::byte* row = (half == KvHalf::k ? block.k : block.v) + offset * hd * dtype_bytes(cache.dtype);
  if (cache.scales == KvScales::dynamic)
    (half == KvHalf::k ? block.k_scale : block.v_scale)[offset] = row_fp8_scale<V>(x, hd);
  const float scale =
      half == KvHalf::k ? stored_k_scale(cache, block, head, offset) : stored_v_scale(cache, block, head, offset);
  switch (cache.dtype) {
    case DType::fp8_e4m3: return store_row<V, fp8_e4m3>(x, scale, hd, row);
    case DType::bf16: return store_row<V, bf16>(x, scale, hd, row);
    default: return store_row<V, float>(x, scale, hd, row);
  }
}

}  // namespace swiftkv::cpu::simd
