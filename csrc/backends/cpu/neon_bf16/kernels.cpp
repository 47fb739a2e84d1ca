// The NEON + bf16 level's table.
#include "backends/cpu/simd/kernels.h"

#include "backends/cpu/neon_bf16/vec.h"

namespace swiftkv::cpu {

const Kernels& neon_bf16_kernels() {
  return simd::kKernels<neon_bf16::Vec, neon_bf16::train_kernels>;
}

}  // namespace swiftkv::cpu
