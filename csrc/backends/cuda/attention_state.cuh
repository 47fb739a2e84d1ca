// The state of a softmax over some keys, and how two become one. Decode, prefill and the general kernel all merge the
// splits of a row by this, in ascending order, so that a row has the same bits in each of them.
#pragma once

#include <cmath>

#include "backends/cuda/platform.h"

namespace swiftkv::cuda {

inline constexpr float kLog2E = 1.44269504088896340736f;

// Of the scores in units of log2(e), so that weights are powers of two. Beside it stand the values [hd]: the sum of
// 2^(score - max) v, not yet divided by sum.
struct SoftmaxState {
  float max;  // -inf: no key yet, or only scores of -inf
  float sum;  // of 2^(score - max)
};

SWIFTKV_DEVICE SoftmaxState empty_state() {
  return {-INFINITY, 0.0f};
}

// What scores are taken relative to; without it, a row of -inf only would meet -inf - -inf.
SWIFTKV_DEVICE float finite_base(float max) {
  return max == -INFINITY ? 0.0f : max;
}

// What two states' values are multiplied by when they become one.
struct MergeFactors {
  float total, next;
};

// total <- total merged with the keys that follow it.
SWIFTKV_DEVICE MergeFactors merge(SoftmaxState& total, SoftmaxState next) {
  const float max = fmaxf(total.max, next.max), base = finite_base(max);
  const MergeFactors f{exp2f(total.max - base), exp2f(next.max - base)};
  total.sum = fmaf(next.sum, f.next, total.sum * f.total);
  total.max = max;
  return f;
}

SWIFTKV_DEVICE float merge_values(const MergeFactors& f, float total, float next) {
  return fmaf(next, f.next, total * f.total);
}

// An output. Adding zero makes -0 to 0: a masked tile may do that, and not every walk has the same masked tiles.
SWIFTKV_DEVICE float finish(float value, float sum) {
  return value / sum + 0.0f;
}

}  // namespace swiftkv::cuda
