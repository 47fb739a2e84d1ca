#include "backends/cuda/sample.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

size_t sample_scratch(const SampleParams& p, const DeviceLimits& limits) {
  return plan_sample(p.rows, p.vocab, limits).bytes();
}

Status sample(const SampleParams& p, const Context& c) {
  const SamplePlan plan = plan_sample(p.rows, p.vocab, c.limits);
  const SampleScratch scratch = {c.scratch, c.scratch + static_cast<size_t>(plan.wave) * plan.row_weights,
                                 plan.row_weights, plan.row_logits};
  for (int64_t first = 0; first < p.rows; first += plan.wave) {
    const int64_t rows = p.rows - first < plan.wave ? p.rows - first : plan.wave;
    const Status status =
        launch("sample", &sample_kernel, grid_of(rows), dim3(kVocabThreads), 0, c.stream, p, scratch, first);
    if (!status.ok()) return status;
  }
  constexpr int kThreads = 64;
  return launch("count_drawn", &count_drawn_kernel, grid_of(ceil_div(p.rows, int64_t{kThreads})), dim3(kThreads), 0,
                c.stream, p);
}

}  // namespace swiftkv::cuda
