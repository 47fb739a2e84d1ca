#include "backends/cuda/logprobs.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

size_t logprobs_scratch(const LogprobsParams& p, const DeviceLimits&) {
  return static_cast<size_t>(p.rows * p.top_k) * sizeof(TopToken);
}

Status logprobs(const LogprobsParams& p, const Context& c) {
  return launch("logprobs", &logprobs_kernel, grid_of(p.rows), dim3(kVocabThreads), 0, c.stream, p,
                reinterpret_cast<TopToken*>(c.scratch));
}

}  // namespace swiftkv::cuda
