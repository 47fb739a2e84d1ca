// What a block does together over a row of the vocabulary: reductions, prefix sums, and searches in the order of ids.
// Amounts are integers, so that sums do not depend on their order and a search finds what its sum promised.
#pragma once

#include <cstdint>

#include "backends/cuda/warp.h"

namespace swiftkv::cuda {

inline constexpr int kVocabThreads = 512;
inline constexpr int kVocabWarps = kVocabThreads / kWarp;
inline constexpr int kBinBits = 11;  // three digits of a key of 32 bits
inline constexpr int kBins = 1 << kBinBits;
inline constexpr int kBinsOfThread = kBins / kVocabThreads;

using Amount = unsigned long long;

// Shared memory of the functions below.
struct VocabShared {
  Amount bins[kBins];
  Amount warps[kVocabWarps];
  double warps_double[kVocabWarps];
  Amount found_before;
  int32_t found;
};

struct Warp {
  int lane, index;
};
SWIFTKV_DEVICE Warp this_warp() {
  const int t = static_cast<int>(threadIdx.x);
  return {t % kWarp, t / kWarp};
}

// Every thread gets op over the values of all, in one fixed order.
template <class T, class Op>
SWIFTKV_DEVICE T block_reduce(T x, T* warps, Op op) {
  const Warp w = this_warp();
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = op(x, __shfl_xor_sync(kAllLanes, x, offset));
  __syncthreads();  // the last use of `warps` is over
  if (w.lane == 0) warps[w.index] = x;
  __syncthreads();
  x = warps[0];
  for (int i = 1; i < kVocabWarps; ++i) x = op(x, warps[i]);
  return x;
}

SWIFTKV_DEVICE Amount block_max(Amount x, VocabShared& s) {
  return block_reduce(x, s.warps, [](Amount a, Amount b) { return a > b ? a : b; });
}
SWIFTKV_DEVICE double block_total(double x, VocabShared& s) {
  return block_reduce(x, s.warps_double, [](double a, double b) { return a + b; });
}

// The sum of the lower lanes' values and one's own.
SWIFTKV_DEVICE Amount warp_prefix(Amount x, int lane) {
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const Amount below = __shfl_up_sync(kAllLanes, x, offset);
    if (lane >= offset) x += below;
  }
  return x;
}

struct Prefix {
  Amount before, total;  // of the threads below this one; of all
};
SWIFTKV_DEVICE Prefix block_prefix(Amount x, VocabShared& s) {
  const Warp w = this_warp();
  const Amount up_to = warp_prefix(x, w.lane);
  __syncthreads();
  if (w.lane == kWarp - 1) s.warps[w.index] = up_to;
  __syncthreads();
  Prefix p = {up_to - x, 0};
  for (int i = 0; i < kVocabWarps; ++i) {
    if (i < w.index) p.before += s.warps[i];
    p.total += s.warps[i];
  }
  return p;
}

// Places [0, count) in as many chunks as there are threads, of whole warps' widths.
SWIFTKV_DEVICE int32_t chunk_of(int32_t count) {
  const int32_t each = (count + kVocabThreads - 1) / kVocabThreads;
  return (each + kWarp - 1) / kWarp * kWarp;
}

// Sums of chunks into bins: a warp a chunk. The block has them after a barrier.
template <class AmountOf>
SWIFTKV_DEVICE void sum_chunks(int32_t count, AmountOf amount_of, VocabShared& s) {
  const Warp w = this_warp();
  const int32_t chunk = chunk_of(count);
  for (int32_t c = w.index; c * chunk < count; c += kVocabWarps) {
    const int32_t end = (c + 1) * chunk < count ? (c + 1) * chunk : count;
    Amount sum = 0;
    for (int32_t i = c * chunk + w.lane; i < end; i += kWarp) sum += amount_of(i);
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kAllLanes, sum, offset);
    if (w.lane == 0) s.bins[c] = sum;
  }
}

// The first place at which the running sum of amount_of, in the order of places, exceeds target_of(total); -1 if none
// does.
template <class AmountOf, class TargetOf>
SWIFTKV_DEVICE int32_t find_place(int32_t count, AmountOf amount_of, TargetOf target_of, VocabShared& s) {
  const Warp w = this_warp();
  const int t = static_cast<int>(threadIdx.x);
  const int32_t chunk = chunk_of(count);
  __syncthreads();  // the last use of bins is over
  if (t == 0) s.found = -1;
  sum_chunks(count, amount_of, s);
  __syncthreads();
  const Amount own = t * chunk < count ? s.bins[t] : 0;
  const Prefix p = block_prefix(own, s);
  const Amount target = target_of(p.total);
  if (p.before <= target && p.before + own > target) {
    s.found = t;
    s.found_before = p.before;
  }
  __syncthreads();
  const int32_t c = s.found;
  if (c < 0) return -1;
  Amount before = s.found_before;
  __syncthreads();  // all have read it
  if (w.index == 0) {
    for (int32_t i = c * chunk; i < (c + 1) * chunk; i += kWarp) {
      const Amount x = warp_prefix(i + w.lane < count ? amount_of(i + w.lane) : 0, w.lane);
      const unsigned over = __ballot_sync(kAllLanes, before + x > target);
      if (over != 0) {
        if (w.lane == 0) s.found = i + __ffs(static_cast<int>(over)) - 1;
        break;
      }
      before += __shfl_sync(kAllLanes, x, kWarp - 1);
    }
  }
  __syncthreads();
  return s.found;
}

// put(place, rank) for the places that pass, ranks ascending with places.
template <class Passes, class Put>
SWIFTKV_DEVICE void for_each_kept(int32_t count, Passes passes, Put put, VocabShared& s) {
  const Warp w = this_warp();
  const int t = static_cast<int>(threadIdx.x);
  const int32_t chunk = chunk_of(count);
  __syncthreads();
  sum_chunks(count, [&](int32_t i) { return passes(i) ? Amount{1} : Amount{0}; }, s);
  __syncthreads();
  const Prefix p = block_prefix(t * chunk < count ? s.bins[t] : 0, s);
  s.bins[t] = p.before;
  __syncthreads();
  for (int32_t c = w.index; c * chunk < count; c += kVocabWarps) {
    auto rank = static_cast<int32_t>(s.bins[c]);
    for (int32_t i = c * chunk; i < (c + 1) * chunk; i += kWarp) {
      const bool kept = i + w.lane < count && passes(i + w.lane);
      const unsigned lanes = __ballot_sync(kAllLanes, kept);
      if (kept) put(i + w.lane, rank + __popc(lanes & ((1u << w.lane) - 1u)));
      rank += __popc(lanes);
    }
  }
}

}  // namespace swiftkv::cuda
