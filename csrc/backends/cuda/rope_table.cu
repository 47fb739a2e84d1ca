#include "backends/cuda/rope_table.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status rope_table(const RopeTableParams& p, const Context& c) {
  const RowsPlan plan = plan_rows(p.head_dim / 2, 1);
  return launch("rope_table", &rope_table_kernel, grid_of(plan.blocks(p.positions)), dim3(plan.threads), 0, c.stream, p,
                plan.blocks_per_row);
}

}  // namespace swiftkv::cuda
