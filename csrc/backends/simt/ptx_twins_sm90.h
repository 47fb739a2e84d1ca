// The functions of csrc/backends/cuda/ptx_sm90.h for the host.
#pragma once

#include <cstdint>

#include "backends/simt/executor_sm90.h"
#include "backends/simt/ptx_twins.h"

namespace swiftkv::cuda::ptx {

static inline void mbarrier_init(uint64_t* barrier, uint32_t arrivals, Site site = Site::current()) {
  simt::mbarrier_init(barrier, arrivals, site);
}
static inline void mbarrier_init_fence() {
  simt::mbarrier_init_fence();
}
static inline void mbarrier_arrive(uint64_t* barrier, Site site = Site::current()) {
  simt::mbarrier_arrive(barrier, 0, site);
}
static inline void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes, Site site = Site::current()) {
  simt::mbarrier_arrive(barrier, bytes, site);
}
static inline bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity, Site site = Site::current()) {
  return simt::mbarrier_try_wait(barrier, parity, site);
}
static inline void bulk_copy(void* dst, const void* src, uint32_t bytes, uint64_t* barrier,
                             Site site = Site::current()) {
  simt::bulk_copy(dst, src, bytes, barrier, site);
}
static inline void proxy_fence() {
  simt::proxy_fence();
}
static inline void named_barrier_sync(int id, int threads, Site site = Site::current()) {
  simt::named_barrier(id, threads, true, site);
}
static inline void named_barrier_arrive(int id, int threads, Site site = Site::current()) {
  simt::named_barrier(id, threads, false, site);
}
static inline void wgmma_fence(Site site = Site::current()) {
  simt::warpgroup_collective(simt::Op::wgmma_fence, {}, site);
}
static inline void wgmma_commit(Site site = Site::current()) {
  simt::warpgroup_collective(simt::Op::wgmma_commit, {}, site);
}
template <int N>
static inline void wgmma_wait(Site site = Site::current()) {
  simt::Wgmma w{};
  w.groups_left = N;
  simt::warpgroup_collective(simt::Op::wgmma_wait, w, site);
}

template <int N, bool kTransposeA = false, bool kTransposeB = false>
static inline void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate, Site site = Site::current()) {
  static_assert(N == 64 || N == 128 || N == 256);
  simt::warpgroup_collective(simt::Op::wgmma, {N, accumulate, kTransposeA, kTransposeB, a, b, d, nullptr, 0}, site);
}
template <int N, bool kTransposeB = false>
static inline void wgmma_bf16(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate,
                              Site site = Site::current()) {
  static_assert(N == 64 || N == 128 || N == 256);
  simt::warpgroup_collective(simt::Op::wgmma, {N, accumulate, false, kTransposeB, 0, b, d, a, 0}, site);
}

}  // namespace swiftkv::cuda::ptx
