#include "backends/cuda/rms_norm.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status rms_norm(const RmsNormParams& p, const Context& c) {
  return visit_activation(p.out.dtype, [&]<class Out>(Out) {
    const bool whole = whole_vectors(p.x, p.dim) && whole_vectors(p.w, p.dim) &&
                       whole_vectors(static_cast<const Out*>(p.out.data), p.dim);
    const RowsPlan plan = plan_row_blocks(p.dim, kVector);
    return launch("rms_norm", &rms_norm_kernel<Out>, grid_of(p.rows), dim3(plan.threads), 0, c.stream, p, whole);
  });
}

}  // namespace swiftkv::cuda
