// Token embedding: rows of the table, widened.
#pragma once

#include "backends/cuda/matrix_read.cuh"
#include "backends/cuda/rows_plan.h"
#include "core/ops.h"

namespace swiftkv::cuda {

template <DType kDtype, bool kPanels>
__global__ __launch_bounds__(kRowThreads) void embed_kernel(EmbedParams p, uint32_t blocks_per_row, bool whole) {
  const uint32_t block = blockIdx.x % blocks_per_row;
  const int64_t row = blockIdx.x / blocks_per_row;
  const int64_t k = (int64_t{block} * blockDim.x + threadIdx.x) * kReadK, d = p.table.k;
  if (k >= d) return;
  float x[kReadK];
  if constexpr (kPanels) {
    read_panel_row<kDtype>(p.table, p.ids[row], k, x);
  } else {
    read_plain_row<kDtype>(p.table, p.ids[row], k, x);
  }
  float* out = p.x + row * d + k;
#pragma unroll
  for (int i = 0; i < kReadK; i += kVector) {
    auto& part = reinterpret_cast<float(&)[kVector]>(x[i]);
    if (whole) {
      store_vector(out + i, part);
    } else {
      store_some(out + i, d - k - i, part);
    }
  }
}

}  // namespace swiftkv::cuda
