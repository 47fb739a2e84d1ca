// The NEON + bfdot level's table of training.
#include "backends/cpu/train/kernels.h"

#include "backends/cpu/neon_bf16/vec.h"

namespace swiftkv::cpu::neon_bf16 {

const TrainKernels& train_kernels() {
  static const TrainKernels table = train::make_kernels<Vec, neon_bf16_kernels>();
  return table;
}

}  // namespace swiftkv::cpu::neon_bf16
