// Blocks within every cache, pair by pair: a later pair may read what an earlier one wrote.
#include <cstring>

#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::scalar {

Status copy_blocks(const CopyBlocksParams& p, const Context& c) {
  c.parallel_for(p.num_caches, [&](int64_t i, int) {
    const KvCache& cache = p.caches[i];
    for (int64_t pair = 0; pair < p.pairs; ++pair)
      if (p.from[pair] != p.to[pair])
        std::memcpy(cache.data + p.to[pair] * cache.block_bytes, cache.data + p.from[pair] * cache.block_bytes,
                    static_cast<size_t>(cache.block_bytes));
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
