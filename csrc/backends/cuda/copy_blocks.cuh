// Blocks within every cache, pair by pair: a later pair may read what an earlier one wrote.
#pragma once

#include "backends/cuda/platform.h"
#include "core/ops.h"

namespace swiftkv::cuda {

inline constexpr int kCopyThreads = 256;
// Caches of one launch: parameters of a kernel are 4 KiB at most.
inline constexpr int kCopyCaches = 64;

struct CopyCaches {
  int64_t pairs;
  const int32_t* from;  // [pairs]
  const int32_t* to;    // [pairs]
  struct {
    std::byte* data;
    int64_t block_bytes;
  } caches[kCopyCaches];
};

// A thread moves the same 16 bytes of every pair, in order, so that no other thread writes what it reads. Blocks are
// whole numbers of 64 bytes for every even head width. grid.y is the cache.
__global__ void __launch_bounds__(kCopyThreads) copy_blocks_kernel(CopyCaches p) {
  const auto& cache = p.caches[blockIdx.y];
  const int64_t at = (int64_t{blockIdx.x} * kCopyThreads + threadIdx.x) * 16;
  if (at >= cache.block_bytes) return;
  for (int64_t pair = 0; pair < p.pairs; ++pair)
    *reinterpret_cast<uint4*>(cache.data + p.to[pair] * cache.block_bytes + at) =
        *reinterpret_cast<const uint4*>(cache.data + p.from[pair] * cache.block_bytes + at);
}

}  // namespace swiftkv::cuda
