#include "backends/cuda/attention_decode.cuh"

#include "backends/cuda/attention_launch.h"

namespace swiftkv::cuda {

// Sequences with several rows, where they are selected, are left to prefill.
Status attention_decode(const AttentionParams& p, const Context& ctx) {
  if (p.half.rows == 0) return {};
  const AttentionProblem problem = attention_problem(p);
  if (attention_kernel(problem.cache, problem.head_dim) == AttentionKernel::general) return attention_general(p, ctx);
  if (p.select == QuerySelect::many_rows) return attention_prefill(p, ctx);
  if (p.select == QuerySelect::all) return attention(p, ctx);
  const DecodePlan plan = decode_plan(problem, ctx.limits);
  SplitStates apart{nullptr, nullptr, plan.max_splits};
  if (plan.splits_apart) {
    apart.values = reinterpret_cast<float*>(ctx.scratch);
    const int64_t values = int64_t{p.half.num_seqs} * plan.max_splits * p.num_heads * problem.head_dim;
    apart.states = reinterpret_cast<SoftmaxState*>(apart.values + values);
  }
  const dim3 grid = grid_of(plan.tiles, plan.split_blocks), block = grid_of(plan.threads);
  const Status s = visit_attention(problem, [&]<class C, int kHeadDim, int kParts>() {
    return launch("attention_decode", &attention_decode_kernel<C, kHeadDim, kParts>, grid, block,
                  static_cast<size_t>(plan.shared_bytes), ctx.stream, p, apart);
  });
  if (!s.ok() || !plan.splits_apart) return s;
  return launch("merge_splits", &merge_splits_kernel, grid_of(int64_t{p.half.num_seqs} * p.num_heads),
                grid_of(problem.head_dim), 0, ctx.stream, p, apart);
}

}  // namespace swiftkv::cuda
