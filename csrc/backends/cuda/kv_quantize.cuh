// Rows of k and v to the pages of one cache.
#pragma once

#include "backends/cuda/kv_page.cuh"

namespace swiftkv::cuda {

inline constexpr int kKvThreads = 256;

// kHeadLanes lanes for each row and KV head.
__global__ void __launch_bounds__(kKvThreads) kv_quantize_kernel(KvQuantizeParams p) {
  const int64_t thread = int64_t{blockIdx.x} * kKvThreads + threadIdx.x, item = thread / kHeadLanes;
  const int lane = static_cast<int>(threadIdx.x) % kHeadLanes, heads = p.cache.num_kv_heads;
  const int64_t row = item / heads;
  const int head = static_cast<int>(item % heads), slot = row < p.rows ? p.slots[row] : -1;
  const int64_t at = item * p.cache.head_dim;
  write_kv(p.cache, slot, head, KvPart::k, lane, StoredHead<float>{p.k + at});
  write_kv(p.cache, slot, head, KvPart::v, lane, StoredHead<float>{p.v + at});
}

}  // namespace swiftkv::cuda
