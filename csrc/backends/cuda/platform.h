// The one place that knows two compilers: nvcc makes device code of the kernels, g++ makes fibers of their threads
// (csrc/backends/simt). Kernels (.cuh) and launchers (.cu) include this and nothing of the CUDA toolkit.
//
// Both sides give: __global__, __device__, __launch_bounds__, threadIdx, blockIdx, blockDim, gridDim,
// __syncthreads, __syncwarp, __shfl_sync, __shfl_xor_sync, __shfl_down_sync, __shfl_up_sync, __ballot_sync,
// __any_sync, __all_sync, __syncthreads_or, atomicAdd/Max/Min/CAS/Exch on 32-bit shared and global words, dim3,
// uint2, uint4, int2, int4, float2, float4 with make_*, __float_as_uint, __uint_as_float, __popc, __ffs, __clz, __dp4a,
// and the mathematics of <cmath> in f32 and f64.
// Banned: __activemask, spinning on another block, grid synchronisation, inline asm (that is ptx.h's).
#pragma once

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include "backends/cuda/launch_nvcc.h"

// A variable of the block: SWIFTKV_SHARED(T, name), or SWIFTKV_SHARED(T, name, [n]) for an array.
#define SWIFTKV_SHARED(T, name, ...) __shared__ T name __VA_ARGS__

// A block's dynamic shared memory, as an array of T. Once per kernel.
#define SWIFTKV_DYNAMIC_SHARED(T, name)                                     \
  extern __shared__ __align__(1024) unsigned char swiftkv_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(swiftkv_dynamic_shared)

#else

#include "backends/simt/platform.h"

#endif

// A helper of kernels. Internal linkage: sanitized and plain objects must not share a copy.
#define SWIFTKV_DEVICE static __device__ inline
