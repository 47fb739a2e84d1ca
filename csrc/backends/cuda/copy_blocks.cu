#include "backends/cuda/copy_blocks.cuh"

#include <algorithm>

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status copy_blocks(const CopyBlocksParams& p, const Context& ctx) {
  if (p.pairs == 0) return {};
  for (int32_t first = 0; first < p.num_caches; first += kCopyCaches) {
    const int32_t count = std::min(p.num_caches - first, kCopyCaches);
    CopyCaches part{p.pairs, p.from, p.to, {}};
    int64_t most = 0;
    for (int32_t i = 0; i < count; ++i) {
      const KvCache& cache = p.caches[first + i];
      part.caches[i] = {cache.data, cache.block_bytes};
      most = std::max(most, cache.block_bytes);
    }
    const Status s = launch("copy_blocks", &copy_blocks_kernel, grid_of(ceil_div(most, kCopyThreads * 16), count),
                            grid_of(kCopyThreads), 0, ctx.stream, part);
    if (!s.ok()) return s;
  }
  return {};
}

}  // namespace swiftkv::cuda
