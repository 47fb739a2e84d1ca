#include "backends/cuda/kv_dequantize.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status kv_dequantize(const KvDequantizeParams& p, const Context& ctx) {
  const int64_t blocks = ceil_div(p.rows * p.cache.num_kv_heads * kHeadLanes, kKvReadThreads);
  return launch("kv_dequantize", &kv_dequantize_kernel, grid_of(blocks), grid_of(kKvReadThreads), 0, ctx.stream, p);
}

}  // namespace swiftkv::cuda
