// The training table of a level: these kernels, and the scalar ones where there is none.
#pragma once

#include "backends/cpu/train/adamw.h"
#include "backends/cpu/train/attention_backward.h"
#include "backends/cpu/train/cast_rows.h"
#include "backends/cpu/train/embed_backward.h"
#include "backends/cpu/train/heads.h"
#include "backends/cpu/train/level.h"
#include "backends/cpu/train/mse.h"
#include "backends/cpu/train/pack_weight.h"
#include "backends/cpu/train/rms_norm_backward.h"
#include "backends/cpu/train/rope_backward.h"
#include "backends/cpu/train/silu_mul_backward.h"
#include "backends/cpu/train/sum_squares.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::train {

// Table: the level's kernels of inference, whose products training uses.
template <class V, const Kernels& (*Table)()>
static TrainKernels make_kernels() {
  using Own = Level<V, Table>;
  TrainKernels k = scalar_train_kernels();
  k.cast_rows = {cast_rows<V>};
  k.rms_norm_backward = {rms_norm_backward<V>, rms_norm_backward_scratch<V>};
  k.linear_backward = {linear_backward<Own>, linear_backward_scratch<Own>};
  k.attention_backward = {attention_backward<V>, attention_backward_scratch<V>};
  k.rope_backward = {rope_backward<V>};
  k.silu_mul_backward = {silu_mul_backward<V>};
  k.distill_head = {distill_head<Own>, distill_head_scratch<Own>};
  k.cross_entropy_head = {cross_entropy_head<Own>, cross_entropy_head_scratch<Own>};
  k.mse = {mse<V>};
  k.embed_backward = {embed_backward<V>};
  k.sum_squares = {sum_squares<V>, sum_squares_scratch<V>};
  k.adamw = {adamw<V>};
  k.pack_weight = {pack_weight<V>};
  return k;
}

}  // namespace swiftkv::cpu::train
