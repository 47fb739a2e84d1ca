#include "backends/cuda/silu_mul.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status silu_mul(const SiluMulParams& p, const Context& c) {
  return visit_activation(p.gate_up.dtype, [&]<class In>(In) {
    return visit_activation(p.out.dtype, [&]<class Out>(Out) {
      const bool whole = whole_vectors(static_cast<const In*>(p.gate_up.data), p.ff) &&
                         whole_vectors(static_cast<const Out*>(p.out.data), p.ff);
      const RowsPlan plan = plan_rows(p.ff, kVector);
      const auto kernel = whole ? &silu_mul_kernel<In, Out, true> : &silu_mul_kernel<In, Out, false>;
      return launch("silu_mul", kernel, grid_of(plan.blocks(p.rows)), dim3(plan.threads), 0, c.stream, p,
                    plan.blocks_per_row);
    });
  });
}

}  // namespace swiftkv::cuda
