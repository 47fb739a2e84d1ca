// Softmax, loss and gradient of one row of logits. Exponentials take the place of the logits, so that there is one of
// each. Sums over the vocabulary are f64 beyond a few vectors.
#pragma once

#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::train {

template <class V>
class WideSum {
 public:
  void add(typename V::F32 x) {
    part_ += x;
    if (++count_ == kVectors) flush();
  }
  double total() {
    flush();
    return total_;
  }

 private:
  static constexpr int kVectors = 32;

  void flush() {
    total_ += static_cast<double>(simd::sum_lanes<V>(part_));
    part_ = typename V::F32{};
    count_ = 0;
  }

  typename V::F32 part_{};
  int count_ = 0;
  double total_ = 0.0;
};

template <class V>
static float most_of(const float* x, int64_t count) {
  const float none = -__builtin_inff();
  typename V::F32 most = simd::set<V>(none);
  for (int64_t i = 0; i < count; i += V::kLanes) {
    const typename V::F32 v = simd::keep_first<V>(count - i, simd::load_first<V>(x + i, count - i), none);
    most = v > most ? v : most;
  }
  return simd::max_lanes<V>(most);
}

// weight T^2 KL(p || q) and weight T (q - p). With z = logits / T without their maximum and e = exp(z), the divergence
// is the mean under p of z_p - z_q, less the difference of the logarithms of the sums.
template <class V, class T>
static float distill_row(float* student, float* teacher, int64_t vocab, float temperature, float weight, T* grad) {
  using F32 = typename V::F32;
  const float scale = 1.0f / temperature;
  const F32 most_q = simd::set<V>(most_of<V>(student, vocab) * scale);
  const F32 most_p = simd::set<V>(most_of<V>(teacher, vocab) * scale);
  WideSum<V> sum_q, sum_p, apart;
  for (int64_t i = 0; i < vocab; i += V::kLanes) {
    const int64_t n = vocab - i;
    const F32 zq = simd::load_first<V>(student + i, n) * scale - most_q;
    const F32 zp = simd::load_first<V>(teacher + i, n) * scale - most_p;
    const F32 q = simd::keep_first<V>(n, simd::exp_lanes<V>(zq), 0.0f);
    const F32 p = simd::keep_first<V>(n, simd::exp_lanes<V>(zp), 0.0f);
    simd::store_first<V>(student + i, n, q);
    simd::store_first<V>(teacher + i, n, p);
    sum_q.add(q);
    sum_p.add(p);
    apart.add(p == 0.0f ? F32{} : p * (zp - zq));  // NaN is not 0 and stays
  }
  const double total_q = sum_q.total(), total_p = sum_p.total();
  const double divergence = apart.total() / total_p - __builtin_log(total_p / total_q);
  const F32 of_q = simd::set<V>(static_cast<float>(1.0 / total_q)),
            of_p = simd::set<V>(static_cast<float>(1.0 / total_p));
  const float slope = weight * temperature;
  for (int64_t i = 0; i < vocab; i += V::kLanes) {
    const int64_t n = vocab - i;
    const F32 q = simd::load_first<V>(student + i, n) * of_q, p = simd::load_first<V>(teacher + i, n) * of_p;
    simd::store_first<V>(grad + i, n, (q - p) * slope);
  }
  return static_cast<float>(divergence * static_cast<double>(slope * temperature));
}

// -weight log softmax(logits)[id] and weight (softmax - onehot).
template <class V, class T>
static float cross_entropy_row(float* logits, int64_t vocab, int32_t id, float weight, T* grad) {
  using F32 = typename V::F32;
  const float most = most_of<V>(logits, vocab), chosen = logits[id] - most;
  const F32 base = simd::set<V>(most);
  WideSum<V> sum;
  for (int64_t i = 0; i < vocab; i += V::kLanes) {
    const int64_t n = vocab - i;
    const F32 q = simd::keep_first<V>(n, simd::exp_lanes<V>(simd::load_first<V>(logits + i, n) - base), 0.0f);
    simd::store_first<V>(logits + i, n, q);
    sum.add(q);
  }
  const double total = sum.total();
  const float of_q = static_cast<float>(1.0 / total);
  for (int64_t i = 0; i < vocab; i += V::kLanes) {
    const int64_t n = vocab - i;
    simd::store_first<V>(grad + i, n, simd::load_first<V>(logits + i, n) * of_q * weight);
  }
  grad[id] = from_f32<T>((logits[id] * of_q - 1.0f) * weight);
  return static_cast<float>((__builtin_log(total) - static_cast<double>(chosen)) * static_cast<double>(weight));
}

}  // namespace swiftkv::cpu::train
