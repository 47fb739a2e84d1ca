// The heads of loss: softmax and gradient of a row in plain loops.
#include <algorithm>
#include <cmath>

#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/scalar/train_ops.h"
#include "backends/cpu/train/heads.h"

namespace swiftkv::cpu::scalar {

namespace {

// Of logits x * scale.
struct Softmax {
  float scale, max;
  double sum;

  Softmax(const float* x, int64_t n, float s) : scale(s), max(-INFINITY), sum(0.0) {
    for (int64_t i = 0; i < n; ++i) max = std::max(max, x[i] * scale);
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(exponential(x[i]));
  }
  float exponential(float x) const { return std::exp(x * scale - max); }
  float probability(float x) const { return exponential(x) * static_cast<float>(1.0 / sum); }
  double log_sum() const { return static_cast<double>(max) + std::log(sum); }
};

struct Level {
  static Status linear(const LinearParams& p, const Context& c) { return scalar::linear(p, c); }
  static size_t linear_scratch(const LinearParams&, int) { return 0; }
  static Status linear_backward(const LinearBackwardParams& p, const Context& c) {
    return scalar::linear_backward(p, c);
  }
  static size_t linear_backward_scratch(const LinearBackwardParams&, int) { return 0; }

  template <class T>
  static float distill(float* student, float* teacher, int64_t vocab, float temperature, float weight, T* grad) {
    const float scale = 1.0f / temperature;
    const Softmax q(student, vocab, scale), p(teacher, vocab, scale);
    const float apart = static_cast<float>(p.log_sum() - q.log_sum());
    double divergence = 0.0;
    for (int64_t i = 0; i < vocab; ++i) {
      const float e = p.exponential(teacher[i]);
      if (e > 0.0f) divergence += static_cast<double>(e * ((teacher[i] * scale - student[i] * scale) - apart));
      grad[i] = from_f32<T>(weight * temperature * (q.probability(student[i]) - p.probability(teacher[i])));
    }
    return static_cast<float>(divergence / p.sum) * (weight * temperature * temperature);
  }

  template <class T>
  static float cross_entropy(float* logits, int64_t vocab, int32_t id, float weight, T* grad) {
    const Softmax q(logits, vocab, 1.0f);
    for (int64_t i = 0; i < vocab; ++i)
      grad[i] = from_f32<T>(weight * (q.probability(logits[i]) - (i == id ? 1.0f : 0.0f)));
    return weight * static_cast<float>(q.log_sum() - static_cast<double>(logits[id]));
  }
};

}  // namespace

size_t distill_head_scratch(const DistillHeadParams& p, int threads) {
  return train::distill_head_scratch<Level>(p, threads);
}

Status distill_head(const DistillHeadParams& p, const Context& c) {
  return train::distill_head<Level>(p, c);
}

size_t cross_entropy_head_scratch(const CrossEntropyHeadParams& p, int threads) {
  return train::cross_entropy_head_scratch<Level>(p, threads);
}

Status cross_entropy_head(const CrossEntropyHeadParams& p, const Context& c) {
  return train::cross_entropy_head<Level>(p, c);
}

}  // namespace swiftkv::cpu::scalar
