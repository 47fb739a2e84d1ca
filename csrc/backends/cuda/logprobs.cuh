// Log-softmax of each row, reduced to the chosen token, its rank and the top k.
#pragma once

#include "backends/cuda/vocab_cut.cuh"
#include "core/ops.h"

namespace swiftkv::cuda {

// One of a row's top k, before they are in order.
struct TopToken {
  uint32_t key;
  int32_t id;
};

// NaN counts as -inf, so that the order stays an order.
SWIFTKV_DEVICE uint32_t top_key(float x) {
  return x == x ? key_of(x) : kKeyOfMinusInfinity;
}

// top: [rows, top_k] scratch.
__global__ __launch_bounds__(kVocabThreads, 1) void logprobs_kernel(LogprobsParams p, TopToken* top) {
  SWIFTKV_SHARED(VocabShared, shared);
  const int64_t row = blockIdx.x;
  const int64_t source = p.index == nullptr ? row : p.index[row];
  const float* logits = p.logits + source * p.vocab;
  const auto vocab = static_cast<int32_t>(p.vocab), first = static_cast<int32_t>(threadIdx.x);

  const float minus_infinity = __uint_as_float(0xff800000u);
  uint32_t most = kKeyOfMinusInfinity;
  float max = minus_infinity;
#pragma unroll 4
  for (int32_t i = first; i < vocab; i += kVocabThreads) max = fmaxf(max, logits[i]);
  max = block_reduce(max, reinterpret_cast<float*>(shared.warps), [](float a, float b) { return fmaxf(a, b); });
  most = top_key(max);

  const int32_t id = p.ids[source];
  const bool chosen = id >= 0 && id < vocab;
  const float logit = chosen ? logits[id] : 0.0f;
  double sum = 0.0;
  Amount greater = 0;
#pragma unroll 4
  for (int32_t i = first; i < vocab; i += kVocabThreads) {
    const float x = logits[i];
    sum += static_cast<double>(expf(x - max));
    greater += x > logit ? 1 : 0;
  }
  sum = block_total(sum, shared);
  greater = block_prefix(greater, shared).total;
  const float log_sum = max + static_cast<float>(log(sum));
  if (first == 0) {  // the sampler's -1: the row had no token to give
    p.chosen[row] = chosen ? logit - log_sum : __uint_as_float(0x7fc00000u);
    p.rank[row] = chosen ? 1 + static_cast<int32_t>(greater) : 0;
  }
  if (p.top_k <= 0) return;

  const auto key_at = [&](int32_t i) { return top_key(logits[i]); };
  Cut cut = keep_all();
  if (p.top_k < vocab)
    cut = cut_prefix(
        vocab, key_at, [](int32_t) { return Amount{1}; }, static_cast<Amount>(p.top_k), kKeyOfMinusInfinity, most,
        shared);
  TopToken* list = top + row * p.top_k;
  for_each_kept(
      vocab, [&](int32_t i) { return keeps(cut, key_at(i), i); },
      [&](int32_t i, int32_t rank) { list[rank] = {key_at(i), i}; }, shared);
  __syncthreads();
  // Each finds its own place in the order: how many are better. The list is in the order of ids.
  for (int32_t i = first; i < p.top_k; i += kVocabThreads) {
    const TopToken own = list[i];
    int32_t better = 0;
    for (int32_t j = 0; j < p.top_k; ++j) {
      const uint32_t key = list[j].key;
      better += key > own.key || (key == own.key && j < i) ? 1 : 0;
    }
    p.top_ids[row * p.top_k + better] = own.id;
    p.top_logprobs[row * p.top_k + better] = logits[own.id] - log_sum;
  }
}

}  // namespace swiftkv::cuda
