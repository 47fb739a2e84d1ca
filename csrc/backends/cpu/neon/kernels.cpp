// The NEON level's table.
#include "backends/cpu/simd/kernels.h"

#include "backends/cpu/neon/vec.h"

namespace swiftkv::cpu {

const Kernels& neon_kernels() {
  return simd::kKernels<neon::Vec, neon::train_kernels>;
}

}  // namespace swiftkv::cpu
