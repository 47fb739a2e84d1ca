// Self-tests of ptx.h: one kernel per function, each of (in, out) in words. What goes in and how large both are is in
// host.cpp.
#include "backends/cuda/ptx.h"

using namespace swiftkv::cuda;

// in: per thread whether the copy is valid, then 4 words per thread.
extern "C" __global__ void self_cp_async_16(const uint32_t* in, uint32_t* out) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  ptx::cp_async_16(shared + 4 * thread, in + threads + 4 * thread, (in[thread] & 1u) != 0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  // Another thread's bytes.
  const int other = threads - 1 - thread;
  for (int i = 0; i < 4; ++i) out[4 * thread + i] = shared[4 * other + i];
}

// in: per thread whether the copy is valid, then a word per thread.
extern "C" __global__ void self_cp_async_4(const uint32_t* in, uint32_t* out) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  ptx::cp_async_4(shared + thread, in + threads + thread, (in[thread] & 1u) != 0);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  out[thread] = shared[threads - 1 - thread];
}

// Three groups of one copy each. Each wait shows what has landed by then: where copies land late, the others are NaN.
extern "C" __global__ void self_cp_async_groups(const uint32_t* in, uint32_t* out) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int group = 0; group < 3; ++group) {
    ptx::cp_async_4(shared + group * threads + thread, in + group * threads + thread);
    ptx::cp_async_commit();
  }
  const auto show = [&](int row) {
    __syncthreads();
    for (int group = 0; group < 3; ++group)
      out[(3 * row + group) * threads + thread] = shared[group * threads + threads - 1 - thread];
    __syncthreads();
  };
  ptx::cp_async_wait<2>();
  show(0);
  ptx::cp_async_wait<1>();
  show(1);
  ptx::cp_async_wait<0>();
  show(2);
}

// Distances, as the two sides may begin at other addresses.
extern "C" __global__ void self_shared_address(const uint32_t* in, uint32_t* out) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  const int thread = static_cast<int>(threadIdx.x);
  out[thread] = ptx::shared_address(shared + in[thread] % 64u) - ptx::shared_address(shared);
}
