// What the products of training ask of a level, from its vector type and its table of inference.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/train/head_rows.h"
#include "backends/cpu/train/linear_backward.h"

namespace swiftkv::cpu::train {

template <class V, const Kernels& (*Table)()>
struct Level {
  using Vec = V;

  static Status linear(const LinearParams& p, const Context& c) { return Table().linear(p, c); }
  static size_t linear_scratch(const LinearParams& p, int threads) { return Table().linear_scratch(p, threads); }
  static Status linear_backward(const LinearBackwardParams& p, const Context& c) {
    return train::linear_backward<Level>(p, c);
  }
  static size_t linear_backward_scratch(const LinearBackwardParams& p, int threads) {
    return train::linear_backward_scratch<Level>(p, threads);
  }

  template <class T>
  static float distill(float* student, float* teacher, int64_t vocab, float temperature, float weight, T* grad) {
    return distill_row<V>(student, teacher, vocab, temperature, weight, grad);
  }
  template <class T>
  static float cross_entropy(float* logits, int64_t vocab, int32_t id, float weight, T* grad) {
    return cross_entropy_row<V>(logits, vocab, id, weight, grad);
  }
};

}  // namespace swiftkv::cpu::train
