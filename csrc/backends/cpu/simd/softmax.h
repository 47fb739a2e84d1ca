// The softmax of one split of keys, and the merge of two.
#pragma once

#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::simd {

// What is known of a row after some keys: out is the sum of exp(score - max) v, not yet divided by sum.
struct SoftmaxState {
  float max;
  float sum;
};

// A row whose scores are all -inf keeps sum 0 instead of exp(-inf + inf).
static inline float finite_base(float max) {
  return max == -__builtin_inff() ? 0.0f : max;
}

// Softmax over the first `keys` (1..256) raw scores of one split. In place: the row becomes the weights of V.
// k_factor[key] scales the score, v_factor[key] the weight. Walks whole vectors; what lies behind the keys is garbage
// before and after.
template <class V>
static SoftmaxState softmax_split(float* row, const float* k_factor, const float* v_factor, int64_t keys) {
  using F32 = typename V::F32;
  F32 most = set<V>(-__builtin_inff());
  for (int64_t i = 0; i < keys; i += V::kLanes) {
    const F32 s = keep_first<V>(keys - i, load<V>(row + i) * load<V>(k_factor + i), -__builtin_inff());
    most = s > most ? s : most;
    store<V>(row + i, s);
  }
  const float max = max_lanes<V>(most);
  const F32 base = set<V>(finite_base(max));
  F32 sum{};
  for (int64_t i = 0; i < keys; i += V::kLanes) {
    const F32 e = exp_lanes<V>(load<V>(row + i) - base);
    sum = sum + e;
    store<V>(row + i, e * load<V>(v_factor + i));
  }
  return {max, sum_lanes<V>(sum)};
}

// total <- total merged with the keys that follow it. Both outs are [width], a multiple of the lanes.
template <class V>
static void merge(SoftmaxState& total, float* out, SoftmaxState next, const float* next_out, int64_t width) {
  const float max = next.max > total.max ? next.max : total.max;
  const float keep = exp_one<V>(total.max - finite_base(max)), add = exp_one<V>(next.max - finite_base(max));
  for (int64_t i = 0; i < width; i += V::kLanes)
    store<V>(out + i, V::fmadd(load<V>(next_out + i), set<V>(add), load<V>(out + i) * keep));
  total.sum = total.sum * keep + next.sum * add;
  total.max = max;
}

}  // namespace swiftkv::cpu::simd
