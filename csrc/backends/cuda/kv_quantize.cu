#include "backends/cuda/kv_quantize.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status kv_quantize(const KvQuantizeParams& p, const Context& ctx) {
  const int64_t blocks = ceil_div(p.rows * p.cache.num_kv_heads * kHeadLanes, kKvThreads);
  return launch("kv_quantize", &kv_quantize_kernel, grid_of(blocks), grid_of(kKvThreads), 0, ctx.stream, p);
}

}  // namespace swiftkv::cuda
