// The scalar level's table of training.
#include "backends/cpu/train_kernels.h"

#include "backends/cpu/scalar/train_ops.h"

namespace swiftkv::cpu {

const TrainKernels& scalar_train_kernels() {
  static constexpr TrainKernels table{
      .cast_rows = {scalar::cast_rows},
      .rms_norm_backward = {scalar::rms_norm_backward, scalar::rms_norm_backward_scratch},
      .silu_mul_backward = {scalar::silu_mul_backward},
      .mse = {scalar::mse},
      .embed_backward = {scalar::embed_backward},
      .sum_squares = {scalar::sum_squares, scalar::sum_squares_scratch},
      .adamw = {scalar::adamw},
  };
  return table;
}

}  // namespace swiftkv::cpu
