// What the executor does for Hopper's instructions, called by ptx_twins_sm90.h.
#pragma once

#include "backends/simt/executor.h"

namespace swiftkv::simt {

void mbarrier_init(uint64_t* barrier, uint32_t arrivals, const Site& site);
void mbarrier_init_fence();
void mbarrier_arrive(uint64_t* barrier, uint32_t bytes, const Site& site);
bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity, const Site& site);
void bulk_copy(void* dst, const void* src, uint32_t bytes, uint64_t* barrier, const Site& site);
void proxy_fence();

// A thread's part of a product of its warpgroup, or of the wait for one.
struct Wgmma {
  int n;
  bool accumulate, transposed_a, transposed_b;
  uint64_t a, b;            // descriptors
  float* d;                 // [n / 2]
  const uint32_t* a_lanes;  // [4] where A is in registers, else null
  int groups_left;          // wait only
};
void warpgroup_collective(Op op, const Wgmma& argument, const Site& site);

}  // namespace swiftkv::simt
