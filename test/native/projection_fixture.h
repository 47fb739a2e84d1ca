// Exact heads of a projection: bias, rotation and error bounds in double, for qkv_rope_cache, q_rope, swiftkv_project.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "compare.h"
#include "fixtures.h"

namespace swiftkv::test {

// [max positions, hd], made by the reference's formula in double.
inline std::vector<float> rope_rows(int64_t positions, int64_t head_dim) {
  std::vector<float> table;
  for (int64_t p = 0; p < positions; ++p) {
    for (int pass = 0; pass < 2; ++pass)
      for (int64_t i = 0; i < head_dim / 2; ++i) {
        const double angle =
            static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
        table.push_back(static_cast<float>(pass == 0 ? std::cos(angle) : std::sin(angle)));
      }
  }
  return table;
}

struct ExactHeads {
  std::vector<float> values;
  std::vector<double> allowed;  // f32 accumulation and rotation, before any rounding of the output
};

// Norms one head with bounds on its error: x / sqrt(mean(x^2) + eps) w. If x is off by e, the root is off by at most
// rms(e) and is never below sqrt(eps); the norm's own roundings are those of rms_norm.
inline void norm_head(std::vector<double>& x, std::vector<double>& bound, const float* w, float eps) {
  double squares = 0.0, off_squares = 0.0;
  for (size_t i = 0; i < x.size(); ++i) {
    squares += x[i] * x[i];
    off_squares += bound[i] * bound[i];
  }
  const auto n = static_cast<double>(x.size());
  const double root = std::sqrt(squares / n + static_cast<double>(eps)), off_root = std::sqrt(off_squares / n);
  const double least = std::max(root - off_root, std::sqrt(static_cast<double>(eps)));
  for (size_t i = 0; i < x.size(); ++i) {
    const double weight = static_cast<double>(w[i]);
    const double off = std::fabs(weight) * (bound[i] + std::fabs(x[i]) / root * off_root) / least;
    x[i] *= weight / root;
    bound[i] = off + (n / 2.0 + 5.0) * kUnit * (std::fabs(x[i]) + off);
  }
}

// Heads [first, first + count) of each row: W a + bias, normed when `norm` [hd] is given, rotated at the row's position
// when `rope` is given. input_error: what errors of `a` add to a sum.
inline ExactHeads exact_heads(const std::vector<float>& a, const Weights& w, const float* bias, int64_t first,
                              int64_t count, int64_t head_dim, const std::vector<int32_t>& positions, const float* rope,
                              const float* norm = nullptr, float eps = 0.0f, double input_error = 0.0) {
  ExactHeads e;
  const int64_t k = w.matrix.k, half = head_dim / 2;
  for (size_t row = 0; row < positions.size(); ++row)
    for (int64_t head = first; head < first + count; ++head) {
      std::vector<double> x, bound;
      for (int64_t n = head * head_dim; n < (head + 1) * head_dim; ++n) {
        double sum = bias == nullptr ? 0.0 : static_cast<double>(bias[n]), magnitude = std::fabs(sum);
        for (int64_t i = 0; i < k; ++i) {
          const double term = static_cast<double>(a[row * static_cast<size_t>(k) + static_cast<size_t>(i)]) *
                              static_cast<double>(w.values[static_cast<size_t>(n * k + i)]);
          sum += term;
          magnitude += std::fabs(term);
        }
        x.push_back(sum);
        bound.push_back(4.0 * std::sqrt(static_cast<double>(k + 4)) * kUnit * magnitude + input_error);
      }
      if (norm != nullptr) norm_head(x, bound, norm, eps);
      for (int64_t i = 0; i < head_dim; ++i) {
        const auto j = static_cast<size_t>(i), other = static_cast<size_t>(i < half ? i + half : i - half);
        double value = x[j], allowed = bound[j];
        if (rope != nullptr) {
          const float* cos_sin = rope + int64_t{positions[row]} * head_dim;
          const auto c = static_cast<double>(cos_sin[i % half]), s = static_cast<double>(cos_sin[half + i % half]);
          value = i < half ? x[j] * c - x[other] * s : x[j] * c + x[other] * s;
          allowed = bound[j] + bound[other] + 2.0 * kUnit * (std::fabs(x[j]) + std::fabs(x[other]));
        }
        e.values.push_back(static_cast<float>(value));
        e.allowed.push_back(allowed);
      }
    }
  return e;
}

// The bound plus the rounding of an output (or of a cache) of this type.
inline Tolerance rounded_tolerance(const ExactHeads& e, DType dtype) {
  return [&e, dtype](size_t i) {
    const double x = std::fabs(static_cast<double>(e.values[i]));
    switch (dtype) {
      case DType::bf16: return e.allowed[i] + 1.01 * kUnitBf16 * x;
      case DType::fp8_e4m3: return e.allowed[i] + 0x1p-4 * 1.01 * x + 1e-4;  // plus half a subnormal step
      default: return e.allowed[i] + kUnit * x;
    }
  };
}

}  // namespace swiftkv::test
