// Reductions over a warp and a block in one fixed order, so that the bits never change.
#pragma once

#include "backends/cuda/platform.h"

namespace swiftkv::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// x, which is the same in every lane. Says so to the compiler: collectives in branches that depend on it stay single
// instructions.
SWIFTKV_DEVICE int warp_uniform(int x) {
  return __shfl_sync(kAllLanes, x, 0);
}

// Every lane gets the sum (butterfly: each lane adds the same pairs, so all have the same bits).
SWIFTKV_DEVICE float warp_sum(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}

SWIFTKV_DEVICE float warp_max(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  return x;
}

// Every thread of the block gets the sum. `partial` is shared memory, a float per warp; the block may use it again
// after its next barrier.
SWIFTKV_DEVICE float block_sum(float x, float* partial) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  x = warp_sum(x);
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  x = partial[0];
  for (int w = 1; w < warps; ++w) x += partial[w];
  return x;
}

SWIFTKV_DEVICE float block_max(float x, float* partial) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  x = warp_max(x);
  if (lane == 0) partial[warp] = x;
  __syncthreads();
  x = partial[0];
  for (int w = 1; w < warps; ++w) x = fmaxf(x, partial[w]);
  return x;
}

}  // namespace swiftkv::cuda
