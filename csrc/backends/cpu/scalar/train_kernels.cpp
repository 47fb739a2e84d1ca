// The scalar level's table of training.
#include "backends/cpu/train_kernels.h"

#include "backends/cpu/scalar/train_ops.h"

namespace swiftkv::cpu {

const TrainKernels& scalar_train_kernels() {
  static constexpr TrainKernels table{
      .cast_rows = {scalar::cast_rows},
      .rms_norm_backward = {scalar::rms_norm_backward, scalar::rms_norm_backward_scratch},
      .linear_backward = {scalar::linear_backward},
      .attention_backward = {scalar::attention_backward, scalar::attention_backward_scratch},
      .rope_backward = {scalar::rope_backward},
      .silu_mul_backward = {scalar::silu_mul_backward},
      .distill_head = {scalar::distill_head, scalar::distill_head_scratch},
      .cross_entropy_head = {scalar::cross_entropy_head, scalar::cross_entropy_head_scratch},
      .mse = {scalar::mse},
      .embed_backward = {scalar::embed_backward},
      .sum_squares = {scalar::sum_squares, scalar::sum_squares_scratch},
      .adamw = {scalar::adamw},
      .pack_weight = {scalar::pack_weight},
  };
  return table;
}

}  // namespace swiftkv::cpu
