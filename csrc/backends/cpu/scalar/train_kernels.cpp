// The scalar level's table of training.
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu {

const TrainKernels& scalar_train_kernels() {
  static constexpr TrainKernels table{};
  return table;
}

}  // namespace swiftkv::cpu
