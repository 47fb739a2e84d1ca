// The gate of the MLP.
#pragma once

#include "backends/cuda/rows_plan.h"
#include "backends/cuda/vectors.h"
#include "core/ops.h"

namespace swiftkv::cuda {

// kWhole: rows are walked by whole vectors.
template <class In, class Out, bool kWhole>
__global__ __launch_bounds__(kRowThreads) void silu_mul_kernel(SiluMulParams p, uint32_t blocks_per_row) {
  const uint32_t block = blockIdx.x % blocks_per_row;
  const int64_t row = blockIdx.x / blocks_per_row;
  const int64_t vector = int64_t{block} * blockDim.x + threadIdx.x, j = vector * kVector;
  if (j >= p.ff) return;
  const In* gate = static_cast<const In*>(p.gate_up.data) + row * 2 * p.ff + j;
  float g[kVector], u[kVector];
  if constexpr (kWhole) {
    load_vector(gate, g);
    load_vector(gate + p.ff, u);
  } else {
    load_some(gate, p.ff - j, g);
    load_some(gate + p.ff, p.ff - j, u);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) g[i] = g[i] / (1.0f + expf(-g[i])) * u[i];
  Out* out = static_cast<Out*>(p.out.data);
  if constexpr (kWhole) {
    store_vector(vector_at(out, row * (p.ff / kVector) + vector), g);
  } else {
    store_some(out + row * p.ff + j, p.ff - j, g);
  }
}

}  // namespace swiftkv::cuda
