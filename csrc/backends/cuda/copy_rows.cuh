// Reads an intermediate tensor back as f32.
#pragma once

#include "backends/cuda/rows_plan.h"
#include "backends/cuda/vectors.h"
#include "core/ops.h"

namespace swiftkv::cuda {

// Rows are contiguous on both sides: count elements in one line.
template <class In>
__global__ __launch_bounds__(kRowThreads) void copy_rows_kernel(const In* in, float* out, int64_t count, bool aligned) {
  const int64_t i = (int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kVector;
  if (i >= count) return;
  float x[kVector];
  if (aligned && i + kVector <= count) {
    load_vector(in + i, x);
    store_vector(out + i, x);
  } else {
    load_some(in + i, count - i, x);
    store_some(out + i, count - i, x);
  }
}

}  // namespace swiftkv::cuda
