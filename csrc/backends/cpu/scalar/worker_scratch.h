// Scratch that belongs to one worker: equal, cache-line aligned slices of the context's.
#pragma once

#include "backends/cpu/kernels.h"

namespace swiftkv::cpu::scalar {

constexpr size_t aligned_bytes(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// Slice `worker` of slices of `floats` floats that start at byte `offset` (a multiple of 64).
inline float* worker_floats(const Context& c, int worker, size_t floats, size_t offset = 0) {
  return reinterpret_cast<float*>(c.scratch + offset + static_cast<size_t>(worker) * aligned_bytes(floats * 4));
}

inline size_t worker_bytes(int threads, size_t floats) {
  return static_cast<size_t>(threads) * aligned_bytes(floats * 4);
}

}  // namespace swiftkv::cpu::scalar
