// Memory of `sample`: rows go in waves, so that scratch is bounded by the device and not by the batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/kernels.h"

namespace swiftkv::cuda {

struct SamplePlan {
  int64_t wave;        // rows at a time, a block each
  size_t row_weights;  // bytes of one row: see SampleScratch
  size_t row_logits;
  constexpr size_t bytes() const { return static_cast<size_t>(wave) * (row_weights + row_logits); }
};

constexpr SamplePlan plan_sample(int64_t rows, int64_t vocab, const DeviceLimits& limits) {
  const auto aligned = [](int64_t bytes) { return static_cast<size_t>((bytes + 255) / 256 * 256); };
  return {rows < limits.num_sms ? rows : limits.num_sms, aligned(vocab * 8), aligned(vocab * 4)};
}

// Of the tokens that top-k leaves, a list is made if they are few: it must fit the row's weights, at 16 bytes each.
constexpr bool list_after_top_k(int64_t top_k, int64_t vocab) {
  return top_k <= vocab / 4;
}

}  // namespace swiftkv::cuda
