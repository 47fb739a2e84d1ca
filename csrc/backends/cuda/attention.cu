// attention: sequences with one query row decode, the others prefill.
#include "backends/cuda/attention_launch.h"

namespace swiftkv::cuda {

size_t attention_scratch(const AttentionParams& p, const DeviceLimits& limits) {
  return attention_scratch_bytes(attention_problem(p), limits);
}

Status attention(const AttentionParams& p, const Context& ctx) {
  if (p.half.rows == 0) return {};
  const AttentionProblem problem = attention_problem(p);
  if (attention_kernel(problem.cache, problem.head_dim) == AttentionKernel::general) return attention_general(p, ctx);
  AttentionParams part = p;
  if (p.select != QuerySelect::many_rows) {
    part.select = QuerySelect::one_row;
    if (const Status s = attention_decode(part, ctx); !s.ok()) return s;
  }
  // As many rows as sequences may still be rows of few: only the device knows.
  if (p.select != QuerySelect::one_row) {
    part.select = QuerySelect::many_rows;
    return attention_prefill(part, ctx);
  }
  return {};
}

}  // namespace swiftkv::cuda
