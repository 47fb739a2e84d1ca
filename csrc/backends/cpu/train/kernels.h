// The training table of a level: these kernels, and the scalar ones where there is none.
#pragma once

#include "backends/cpu/train/adamw.h"
#include "backends/cpu/train/cast_rows.h"
#include "backends/cpu/train/embed_backward.h"
#include "backends/cpu/train/mse.h"
#include "backends/cpu/train/rms_norm_backward.h"
#include "backends/cpu/train/silu_mul_backward.h"
#include "backends/cpu/train/sum_squares.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

template <class V>
static TrainKernels make_kernels() {
  TrainKernels k = scalar_train_kernels();
  k.cast_rows = {cast_rows<V>};
  k.rms_norm_backward = {rms_norm_backward<V>, rms_norm_backward_scratch<V>};
  k.silu_mul_backward = {silu_mul_backward<V>};
  k.mse = {mse<V>};
  k.embed_backward = {embed_backward<V>};
  k.sum_squares = {sum_squares<V>, sum_squares_scratch<V>};
  k.adamw = {adamw<V>};
  return k;
}

}  // namespace swiftkv::cpu::train
