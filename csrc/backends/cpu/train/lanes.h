// Walks a row by vectors.
#pragma once

#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::train {

// Calls f(i, n) for the vectors from begin to end: n is a constant for whole ones, so that load_first and store_first
// have nothing to decide, and what is left for the last.
template <class V, class F>
static inline void for_lanes(int64_t begin, int64_t end, F&& f) {
  for (; begin + V::kLanes <= end; begin += V::kLanes) f(begin, int64_t{V::kLanes});
  if (begin < end) f(begin, end - begin);
}

}  // namespace swiftkv::cpu::train
