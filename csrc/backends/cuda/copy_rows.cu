#include "backends/cuda/copy_rows.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status copy_rows(const CopyRowsParams& p, const Context& c) {
  return visit_activation(p.in.dtype, [&]<class In>(In) {
    const auto addresses = reinterpret_cast<uintptr_t>(p.in.data) | reinterpret_cast<uintptr_t>(p.out);
    const int64_t count = p.rows * p.dim;
    return launch("copy_rows", &copy_rows_kernel<In>, grid_of(ceil_div(count, int64_t{kRowThreads} * kVector)),
                  dim3(kRowThreads), 0, c.stream, static_cast<const In*>(p.in.data), p.out, count, addresses % 16 == 0);
  });
}

}  // namespace swiftkv::cuda
