// The AVX2 level's table of training.
#include "backends/cpu/train/kernels.h"

#include "backends/cpu/avx2/vec.h"

namespace swiftkv::cpu::avx2 {

const TrainKernels& train_kernels() {
  static const TrainKernels table = train::make_kernels<Vec, avx2_kernels>();
  return table;
}

}  // namespace swiftkv::cpu::avx2
