// y = a W^T + bias for one row: one accumulator per output, k ascending, whatever the layout.
#pragma once

#include <algorithm>

#include "backends/cpu/scalar/quantized_product.h"
#include "backends/cpu/visit_float.h"
#include "core/ops.h"

namespace swiftkv::cpu::scalar {

// Outputs [n0, n1) of one row into out[0 .. n1 - n0), n1 - n0 <= kPanel and within one panel.
template <class A, class W>
void panel_outputs(const A* a, const Matrix& w, int64_t n0, int64_t n1, float* out) {
  const int64_t panel = n0 / kPanel, lane = n0 % kPanel, width = n1 - n0, k = w.k;
  for (int64_t j = 0; j < width; ++j) out[j] = 0.0f;
  if constexpr (std::is_same_v<W, float>) {
    const W* row = static_cast<const W*>(w.data) + panel * k * kPanel + lane;
    for (int64_t i = 0; i < k; ++i, row += kPanel) {
      const float x = to_f32(a[i]);
      for (int64_t j = 0; j < width; ++j) out[j] += x * row[j];
    }
  } else {
    const int64_t pairs = (k + 1) / 2;
    const W* row = static_cast<const W*>(w.data) + (panel * pairs * kPanel + lane) * 2;
    for (int64_t i = 0; i < k; ++i) {
      const float x = to_f32(a[i]);
      const W* column = row + (i / 2) * kPanel * 2 + i % 2;
      for (int64_t j = 0; j < width; ++j) out[j] += x * to_f32(column[2 * j]);
    }
  }
}

template <class A, class W>
void row_major_outputs(const A* a, const Matrix& w, int64_t n0, int64_t n1, float* out) {
  for (int64_t n = n0; n < n1; ++n) {
    const W* row = static_cast<const W*>(w.data) + n * w.k;
    float sum = 0.0f;
    for (int64_t i = 0; i < w.k; ++i) sum += to_f32(a[i]) * to_f32(row[i]);
    out[n - n0] = sum;
  }
}

// Stands for the type of weights that are codes; w.dtype says which.
struct Codes {};

// Outputs [n0, n1) of the row of activations at `a`, plus bias (null or [w.n]).
template <class A, class W>
void outputs(const A* a, const Matrix& w, const float* bias, int64_t n0, int64_t n1, float* out, bool fp8_activations) {
  const auto for_panels = [&](auto&& f) {
    for (int64_t n = n0; n < n1;) {
      const int64_t end = std::min(n1, (n / kPanel + 1) * kPanel);
      f(n, end);
      n = end;
    }
  };
  if constexpr (std::is_same_v<W, Codes>) {
    for_panels([&](int64_t n, int64_t end) { quantized_outputs(a, w, n, end, out + (n - n0), fp8_activations); });
  } else if (w.layout == Layout::row_major) {
    row_major_outputs<A, W>(a, w, n0, n1, out);
  } else {
    for_panels([&](int64_t n, int64_t end) { panel_outputs<A, W>(a, w, n, end, out + (n - n0)); });
  }
  if (bias != nullptr)
    for (int64_t n = n0; n < n1; ++n) out[n - n0] += bias[n];
}

// Calls f(A{}, W{}) with the types of the activations and of the weights.
template <class F>
Status visit_product(DType a, DType w, F&& f) {
  return visit_float(a, "activations", [&]<class A>(A) {
    if (is_quantized(w)) return f(A{}, Codes{});
    return visit_float(w, "weights", [&]<class W>(W) { return f(A{}, W{}); });
  });
}

}  // namespace swiftkv::cpu::scalar
