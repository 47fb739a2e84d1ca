// The AVX2 level's table.
#include "backends/cpu/simd/kernels.h"

#include "backends/cpu/avx2/vec.h"

namespace swiftkv::cpu {

const Kernels& avx2_kernels() {
  return simd::kKernels<avx2::Vec, avx2::train_kernels>;
}

}  // namespace swiftkv::cpu
