// Rows of k and v back from the pages of one cache; a slot of -1 leaves its row as it is.
#pragma once

#include "backends/cuda/kv_page.cuh"

namespace swiftkv::cuda {

inline constexpr int kKvReadThreads = 256;

// kHeadLanes lanes for each row and KV head. At least 4 blocks: without a number, ptxas spills to make room for 8.
__global__ void __launch_bounds__(kKvReadThreads, 4) kv_dequantize_kernel(KvDequantizeParams p) {
  const int64_t thread = int64_t{blockIdx.x} * kKvReadThreads + threadIdx.x, item = thread / kHeadLanes;
  const int lane = static_cast<int>(threadIdx.x) % kHeadLanes, hd = p.cache.head_dim;
  const int64_t row = item / p.cache.num_kv_heads;
  const int slot = row < p.rows ? p.slots[row] : -1, offset = slot % kBlockTokens;
  if (slot < 0) return;
  const int head = static_cast<int>(item % p.cache.num_kv_heads);
  const auto read = [&](KvPart part, float* out) {
    const KvHead h = kv_head(p.cache, slot / kBlockTokens, head, part);
    const float scale = p.cache.scales == KvScales::none ? 1.0f : kv_scale(h, offset);
    const auto store = [&]<class T>(const T* rows) {
      const StoredHead<T> row{rows + offset * hd};
      store_head(out + item * hd, hd, lane, MappedHead(row, [scale](float value) { return value * scale; }));
    };
    switch (p.cache.dtype) {
      case DType::f32: return store(reinterpret_cast<const float*>(h.rows));
      case DType::bf16: return store(reinterpret_cast<const bf16*>(h.rows));
      default: return store(reinterpret_cast<const fp8_e4m3*>(h.rows));
    }
  };
  read(KvPart::k, p.k);
  read(KvPart::v, p.v);
}

}  // namespace swiftkv::cuda
