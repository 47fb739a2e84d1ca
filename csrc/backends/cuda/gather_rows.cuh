// Rows by index.
#pragma once

#include "backends/cuda/platform.h"
#include "backends/cuda/rows_plan.h"
#include "core/ops.h"

namespace swiftkv::cuda {

// Word is what a thread copies at a time: uint4 where rows are aligned, else one element. words: in a row.
template <class Word>
__global__ __launch_bounds__(kRowThreads) void gather_rows_kernel(GatherRowsParams p, int64_t words,
                                                                  uint32_t blocks_per_row) {
  const uint32_t block = blockIdx.x % blocks_per_row;
  const int64_t row = blockIdx.x / blocks_per_row;
  const int64_t j = int64_t{block} * blockDim.x + threadIdx.x;
  if (j >= words) return;
  const Word* source = reinterpret_cast<const Word*>(p.x + p.index[row] * p.dim);
  reinterpret_cast<Word*>(p.out + row * p.dim)[j] = source[j];
}

}  // namespace swiftkv::cuda
