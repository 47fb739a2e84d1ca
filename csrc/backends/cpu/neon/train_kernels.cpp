// The NEON level's table of training.
#include "backends/cpu/train/kernels.h"

#include "backends/cpu/neon/vec.h"

namespace swiftkv::cpu::neon {

const TrainKernels& train_kernels() {
  static const TrainKernels table = train::make_kernels<Vec, neon_kernels>();
  return table;
}

}  // namespace swiftkv::cpu::neon
