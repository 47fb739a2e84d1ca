// Self-tests of ptx_sm90.h.
#include "backends/cuda/ptx_sm90.h"

using namespace swiftkv::cuda;

// Warps 0 and 1 wait at barrier 3 for what warp 2 has stored, which only arrives.
extern "C" __global__ void self_named_barrier(const uint32_t* in, uint32_t* out) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread >= 64) {
    shared[thread - 64] = in[thread - 64] + 1;
    shared[thread - 32] = in[thread - 32] + 2;
    ptx::named_barrier_arrive(3, 96);
  } else {
    ptx::named_barrier_sync(3, 96);
    out[thread] = shared[63 - thread];
  }
}

// Two phases of one barrier: its 256 words twice, each of one copy and the arrivals of all threads.
extern "C" __global__ void self_bulk_copy(const uint32_t* in, uint32_t* out) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  auto* const barrier = reinterpret_cast<uint64_t*>(shared + 512);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    ptx::mbarrier_init(barrier, 64);
    ptx::mbarrier_init_fence();
  }
  __syncthreads();
  for (uint32_t phase = 0; phase < 2; ++phase) {
    if (thread == 0) {
      ptx::mbarrier_arrive_expect(barrier, 1024);
      ptx::bulk_copy(shared + 256 * phase, in + 256 * phase, 1024, barrier);
    } else {
      ptx::mbarrier_arrive(barrier);
    }
    while (!ptx::mbarrier_try_wait(barrier, phase)) {
    }
  }
  for (int i = thread; i < 256; i += 64) out[i] = shared[i] ^ shared[511 - i];
}

// in: any words, of which the shared memory is filled with 16-bit floats between 1 and 2 of either sign, exact in any
// order of summing; then 4 words of A per thread. Descriptors name tiles of A at 0 and of B at 8192.
inline constexpr int kWgmmaWords = (8192 + 16384) / 4;
inline constexpr int kWgmmaIn = kWgmmaWords + 4 * 128;
inline constexpr int kWgmmaShared = kWgmmaWords * 4;

SWIFTKV_DEVICE uint32_t self_small(uint32_t word) {
  return (word & 0x80408040u) | 0x3f803f80u;
}

template <int kN, bool kRegisters, bool kTransposeA, bool kTransposeB>
SWIFTKV_DEVICE void self_wgmma(const uint32_t* in, uint32_t* out, ptx::Swizzle swizzle, uint32_t leading,
                               uint32_t stride) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kWgmmaWords; i += 128) shared[i] = self_small(in[i]);
  ptx::proxy_fence();
  __syncthreads();
  uint32_t a[4];
  for (int i = 0; i < 4; ++i) a[i] = self_small(in[kWgmmaWords + 4 * thread + i]);
  const uint32_t start = ptx::shared_address(shared);
  const uint64_t tile_a = ptx::wgmma_descriptor(start, leading, stride, swizzle);
  const uint64_t tile_b = ptx::wgmma_descriptor(start + 8192, leading, stride, swizzle);
  float d[kN / 2];
  for (int i = 0; i < kN / 2; ++i) d[i] = static_cast<float>(i + thread);
  ptx::wgmma_fence();
  // The first product forgets d, the second adds to it.
  if constexpr (kRegisters) {
    ptx::wgmma_bf16<kN, kTransposeB>(d, a, tile_b, false);
    ptx::wgmma_bf16<kN, kTransposeB>(d, a, tile_b, true);
  } else {
    ptx::wgmma_bf16<kN, kTransposeA, kTransposeB>(d, tile_a, tile_b, false);
    ptx::wgmma_bf16<kN, kTransposeA, kTransposeB>(d, tile_a, tile_b, true);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  for (int i = 0; i < kN / 2; ++i) out[thread * (kN / 2) + i] = __float_as_uint(d[i]);
}

#if !defined(__CUDACC__) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

extern "C" __global__ void self_wgmma_64(const uint32_t* in, uint32_t* out) {
  self_wgmma<64, false, false, false>(in, out, ptx::Swizzle::bytes_128, 0, 1024);
}
extern "C" __global__ void self_wgmma_128(const uint32_t* in, uint32_t* out) {
  self_wgmma<128, false, false, false>(in, out, ptx::Swizzle::none, 128, 256);
}
extern "C" __global__ void self_wgmma_256(const uint32_t* in, uint32_t* out) {
  self_wgmma<256, false, false, false>(in, out, ptx::Swizzle::none, 4096, 128);
}
extern "C" __global__ void self_wgmma_64_registers(const uint32_t* in, uint32_t* out) {
  self_wgmma<64, true, false, false>(in, out, ptx::Swizzle::bytes_128, 0, 1024);
}
extern "C" __global__ void self_wgmma_128_registers(const uint32_t* in, uint32_t* out) {
  self_wgmma<128, true, false, false>(in, out, ptx::Swizzle::bytes_64, 0, 512);
}
extern "C" __global__ void self_wgmma_256_registers(const uint32_t* in, uint32_t* out) {
  self_wgmma<256, true, false, true>(in, out, ptx::Swizzle::bytes_128, 2048, 1024);
}
extern "C" __global__ void self_wgmma_transposed(const uint32_t* in, uint32_t* out) {
  self_wgmma<64, false, true, true>(in, out, ptx::Swizzle::none, 1024, 128);
}
extern "C" __global__ void self_wgmma_swizzled_64(const uint32_t* in, uint32_t* out) {
  self_wgmma<64, false, true, false>(in, out, ptx::Swizzle::bytes_64, 1024, 512);
}
extern "C" __global__ void self_wgmma_swizzled_32(const uint32_t* in, uint32_t* out) {
  self_wgmma<64, false, false, true>(in, out, ptx::Swizzle::bytes_32, 512, 256);
}

#endif
