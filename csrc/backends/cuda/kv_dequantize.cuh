// Rows of k and v back from the pages of one cache; a slot of -1 leaves its row as it is.
#pragma once

#include "backends/cuda/kv_page.cuh"

namespace swiftkv::cuda {

inline constexpr int kKvReadThreads = 256;

// kHeadLanes lanes for each row and KV head.
__global__ void __launch_bounds__(kKvReadThreads) kv_dequantize_kernel(KvDequantizeParams p) {
  const int64_t thread = int64_t{blockIdx.x} * kKvReadThreads + threadIdx.x, item = thread / kHeadLanes;
  const int lane = static_cast<int>(threadIdx.x) % kHeadLanes, hd = p.cache.head_dim;
  const int64_t row = item / p.cache.num_kv_heads;
  const int slot = row < p.rows ? p.slots[row] : -1, offset = slot % kBlockTokens;
  if (slot < 0) return;
  const int head = static_cast<int>(item % p.cache.num_kv_heads);
  const auto read = [&](KvPart part, float* out) {
    const KvHead h = kv_head(p.cache, slot / kBlockTokens, head, part);
    const float scale = p.cache.scales == KvScales::none ? 1.0f : kv_scale(h, offset);
    store_head(out + item * hd, hd, lane, [&](int i) { return kv_element(h, p.cache.dtype, hd, offset, i) * scale; });
  };
  read(KvPart::k, p.k);
  read(KvPart::v, p.v);
}

}  // namespace swiftkv::cuda
