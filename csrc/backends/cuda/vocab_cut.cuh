// The best tokens of a row without sorting it: a threshold among the logits, found digit by digit by histograms.
#pragma once

#include "backends/cuda/vocab_block.cuh"

namespace swiftkv::cuda {

// Floats as integers of the same order, for which +0 and -0 are equal. 0 is no float's key.
SWIFTKV_DEVICE uint32_t key_of(float x) {
  const uint32_t u = __float_as_uint(x + 0.0f);
  return u ^ ((u >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}

inline constexpr uint32_t kNoKey = 0;                        // of a token that is not allowed
inline constexpr uint32_t kKeyOfMinusInfinity = 0x007fffff;  // then come the finite ones

// A prefix of the order by descending key and, among equal ones, ascending place.
struct Cut {
  uint32_t key;
  int32_t last_place;  // among those at the key itself
};

SWIFTKV_DEVICE Cut keep_all() {
  return {kNoKey, INT32_MAX};
}

SWIFTKV_DEVICE bool keeps(const Cut& cut, uint32_t key, int32_t place) {
  return key > cut.key || (key == cut.key && key != kNoKey && place <= cut.last_place);
}

// The shortest prefix that amounts to `target`, at least 1; all if all do not. keys: key_of_place(place) lies in
// [low, high] or is kNoKey. Tokens of one key have one amount, or none where an earlier cut drops them.
template <class KeyOf, class AmountOf>
SWIFTKV_DEVICE Cut cut_prefix(int32_t count, KeyOf key_of_place, AmountOf amount_of, Amount target, uint32_t low,
                              uint32_t high, VocabShared& s) {
  const int t = static_cast<int>(threadIdx.x);
  Amount above = 0;  // of all keys over `high`; less than target
  for (;;) {
    const int bits = kWarp - __clz(static_cast<int>(high - low));
    const int shift = bits > kBinBits ? bits - kBinBits : 0;
    __syncthreads();  // the last use of bins and found is over
#pragma unroll
    for (int i = 0; i < kBinsOfThread; ++i) s.bins[t + i * kVocabThreads] = 0;
    if (t == 0) s.found = -1;
    __syncthreads();
#pragma unroll 4
    for (int32_t i = t; i < count; i += kVocabThreads) {
      const uint32_t key = key_of_place(i);
      if (key >= low && key <= high) atomicAdd(&s.bins[(key - low) >> shift], amount_of(i));
    }
    __syncthreads();
    // From the top down, a few neighbouring bins a thread.
    const int top = kBins - 1 - kBinsOfThread * t;
    Amount own = 0;
#pragma unroll
    for (int i = 0; i < kBinsOfThread; ++i) own += s.bins[top - i];
    Amount before = above + block_prefix(own, s).before;
    if (before < target && before + own >= target) {
      int bin = top;
      while (before + s.bins[bin] < target) before += s.bins[bin--];
      s.found = bin;
      s.found_before = before;
    }
    __syncthreads();
    if (s.found < 0) return {low, INT32_MAX};
    low += static_cast<uint32_t>(s.found) << shift;
    const uint32_t end = low + ((1u << shift) - 1u);
    high = end < high ? end : high;
    above = s.found_before;
    if (shift == 0) break;
  }
  const Amount rest = target - above;
  const int32_t last = find_place(
      count, [&](int32_t i) { return key_of_place(i) == low ? amount_of(i) : 0; }, [&](Amount) { return rest - 1; }, s);
  return {low, last};
}

}  // namespace swiftkv::cuda
