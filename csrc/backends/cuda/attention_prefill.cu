#include "backends/cuda/attention_prefill.cuh"

#include "backends/cuda/attention_launch.h"

namespace swiftkv::cuda {

Status attention_prefill(const AttentionParams& p, const Context& ctx) {
  if (p.half.rows == 0) return {};
  const AttentionProblem problem = attention_problem(p);
  if (attention_kernel(problem.cache, problem.head_dim) == AttentionKernel::general) return attention_general(p, ctx);
  const PrefillPlan plan = prefill_plan(problem);
  return visit_attention(problem, [&]<class C, int kHeadDim, int kParts>() {
    return launch("attention_prefill", &attention_prefill_kernel<C, kHeadDim, kParts>, grid_of(plan.blocks),
                  grid_of(plan.threads), static_cast<size_t>(plan.shared_bytes), ctx.stream, p, plan.places);
  });
}

}  // namespace swiftkv::cuda
