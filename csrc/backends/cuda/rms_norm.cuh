// Root-mean-square normalisation.
#pragma once

#include "backends/cuda/rows_plan.h"
#include "backends/cuda/vectors.h"
#include "backends/cuda/warp.h"
#include "core/ops.h"

namespace swiftkv::cuda {

// A block a row. Thread t takes elements 8 t.., 8 (t + threads).. in this order, whether rows are aligned or not, then
// the block adds: the bits of a row depend on its values and their number.
template <class Out>
__global__ __launch_bounds__(kRowThreads) void rms_norm_kernel(RmsNormParams p, bool whole) {
  SWIFTKV_SHARED(float, partial, [kRowThreads / kWarp]);
  const int64_t row = blockIdx.x;
  const float* x = p.x + row * p.dim;
  Out* out = static_cast<Out*>(p.out.data) + row * p.dim;
  const int64_t first = int64_t{threadIdx.x} * kVector, step = int64_t{blockDim.x} * kVector;

  float v[kVector], sum = 0.0f;
  for (int64_t j = first; j < p.dim; j += step) {
    if (whole) {
      load_vector(x + j, v);
    } else {
      load_some(x + j, p.dim - j, v);
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum = fmaf(v[i], v[i], sum);
  }
  sum = block_sum(sum, partial);
  const float r = 1.0f / sqrtf(sum / static_cast<float>(p.dim) + p.eps);

  for (int64_t j = first; j < p.dim; j += step) {
    float w[kVector];
    if (whole) {
      load_vector(x + j, v);
      load_vector(p.w + j, w);
    } else {
      load_some(x + j, p.dim - j, v);
      load_some(p.w + j, p.dim - j, w);
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = w[i] * (v[i] * r);
    if (whole) {
      store_vector(out + j, v);
    } else {
      store_some(out + j, p.dim - j, v);
    }
  }
}

}  // namespace swiftkv::cuda
