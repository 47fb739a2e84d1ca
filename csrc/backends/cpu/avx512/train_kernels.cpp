// The AVX-512 + bf16 level's table of training.
#include "backends/cpu/train/kernels.h"

#include "backends/cpu/avx512/vec.h"

namespace swiftkv::cpu::avx512 {

const TrainKernels& train_kernels() {
  static const TrainKernels table = train::make_kernels<Vec, avx512_kernels>();
  return table;
}

}  // namespace swiftkv::cpu::avx512
