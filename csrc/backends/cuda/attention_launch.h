// What the launchers of attention share: the visitor of the tensor-core kernels' types, and the general kernel.
#pragma once

#include "backends/cuda/attention_plan.h"
#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

// For caches and widths that the tensor-core kernels do not take; with any `select`.
Status attention_general(const AttentionParams&, const Context&);

template <class C, int kHeadDim, class F>
Status visit_query_parts(DType q, F&& f) {
  return query_parts(q) == 2 ? f.template operator()<C, kHeadDim, 2>() : f.template operator()<C, kHeadDim, 1>();
}

template <class C, class F>
Status visit_head_dim(const AttentionProblem& p, F&& f) {
  switch (p.head_dim) {
    case 32: return visit_query_parts<C, 32>(p.q, f);
    case 64: return visit_query_parts<C, 64>(p.q, f);
    case 96: return visit_query_parts<C, 96>(p.q, f);
    case 128: return visit_query_parts<C, 128>(p.q, f);
    case 256: return visit_query_parts<C, 256>(p.q, f);
    default: return fail(Code::internal, "No tensor-core attention for heads of width %d", p.head_dim);
  }
}

// Calls f.operator()<C, kHeadDim, kParts>().
template <class F>
Status visit_attention(const AttentionProblem& p, F&& f) {
  if (p.cache == DType::fp8_e4m3) return visit_head_dim<fp8_e4m3>(p, f);
  return visit_head_dim<bf16>(p, f);
}

}  // namespace swiftkv::cuda
