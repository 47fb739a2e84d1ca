// Token embedding: rows of the table, widened.
#pragma once

#include "backends/cuda/matrix_read.cuh"
#include "backends/cuda/rows_plan.h"
#include "core/ops.h"

namespace swiftkv::cuda {

// kWhole: rows of x are written by whole vectors.
template <DType kDtype, bool kPanels, bool kWhole>
__global__ __launch_bounds__(kRowThreads) void embed_kernel(EmbedParams p, uint32_t blocks_per_row) {
  const uint32_t block = blockIdx.x % blocks_per_row;
  const int64_t row = blockIdx.x / blocks_per_row;
  const int64_t unit = int64_t{block} * blockDim.x + threadIdx.x, k = unit * kReadK, d = p.table.k;
  if (k >= d) return;
  float x[kReadK];
  if constexpr (kPanels) {
    read_panel_row<kDtype>(p.table, p.ids[row], k, x);
  } else {
    read_plain_row<kDtype>(p.table, p.ids[row], k, x);
  }
#pragma unroll
  for (int i = 0; i < kReadK; i += kVector) {
    auto& part = reinterpret_cast<float(&)[kVector]>(x[i]);
    if constexpr (kWhole) {
      store_vector(vector_at(p.x, (row * (d / kReadK) + unit) * (kReadK / kVector) + i / kVector), part);
    } else {
      store_some(p.x + row * d + k + i, d - k - i, part);
    }
  }
}

}  // namespace swiftkv::cuda
