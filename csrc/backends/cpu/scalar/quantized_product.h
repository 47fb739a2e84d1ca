// Products with 8 and 4 bit weights for one row, as core/ops.h defines them: the row is quantized anew for every panel.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/quantized.h"
#include "core/ops.h"

namespace swiftkv::cpu::scalar {

// Bits of the largest magnitude: as integers they order like the numbers, with infinity and NaN above all.
template <class A>
uint32_t max_magnitude(const A* a, int64_t count) {
  uint32_t most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::bit_cast<uint32_t>(to_f32(a[i])) & 0x7fffffffu);
  return most;
}

// Codes of up to 32 activations, zero behind them; returns their scale.
template <class A>
float quantize_group(const A* a, int64_t count, int32_t (&codes)[kQuantGroup]) {
  std::fill(codes, codes + kQuantGroup, 0);
  const float most = std::bit_cast<float>(max_magnitude(a, count));
  if (!(most < std::numeric_limits<float>::infinity())) return std::numeric_limits<float>::quiet_NaN();
  if (most < kQuantLeast) return 0.0f;
  const float inverse = 127.0f / most;
  for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<int32_t>(std::nearbyint(to_f32(a[i]) * inverse));
  return most / 127.0f;
}

// Outputs [n0, n1) of one panel.
template <class A>
void int8_outputs(const A* a, const Matrix& w, int64_t n0, int64_t n1, float* out) {
  const auto* panel = static_cast<const uint8_t*>(w.data) + n0 / kPanel * quantized_panel_bytes(DType::int8, w.k);
  const float* scales = output_scales(w);
  std::fill(out, out + (n1 - n0), 0.0f);
  for (int64_t at = 0; at < w.k; at += kQuantGroup) {
    const int64_t count = std::min(kQuantGroup, w.k - at);
    int32_t codes[kQuantGroup];
    const float scale = quantize_group(a + at, count, codes);
    for (int64_t n = n0; n < n1; ++n) {
      int32_t sum = 0;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t k = at + i;
        sum += codes[i] * (panel[(k / 4 * kPanel + n % kPanel) * 4 + k % 4] - kInt8Zero);
      }
      out[n - n0] = std::fma(static_cast<float>(sum), scale, out[n - n0]);
    }
  }
  for (int64_t n = n0; n < n1; ++n) out[n - n0] *= scales[n];
}

template <class A>
void int4_outputs(const A* a, const Matrix& w, int64_t n0, int64_t n1, float* out) {
  const auto* group = static_cast<const uint8_t*>(w.data) + n0 / kPanel * quantized_panel_bytes(DType::int4, w.k);
  std::fill(out, out + (n1 - n0), 0.0f);
  for (int64_t at = 0; at < w.k; at += kQuantGroup, group += kInt4GroupBytes) {
    int32_t codes[kQuantGroup];
    const float scale = quantize_group(a + at, std::min(kQuantGroup, w.k - at), codes);
    for (int64_t n = n0; n < n1; ++n) {
      const int64_t lane = n % kPanel;
      int32_t sum = 0;
      for (int64_t i = 0; i < kQuantGroup; ++i) {
        const int32_t both = group[kInt4ScaleBytes + (i / 8 * kPanel + lane) * 4 + i % 4];
        sum += codes[i] * ((i % 8 < 4 ? both & 15 : both >> 4) - kInt4Zero);
      }
      f16 weights;
      std::memcpy(&weights, group + 2 * lane, sizeof weights);
      out[n - n0] = std::fma(static_cast<float>(sum), scale * to_f32(weights), out[n - n0]);
    }
  }
}

// With fp8_activations the row is what its codes are worth, and `row_scale` multiplies the sum.
template <class A>
void fp8_outputs(const A* a, const Matrix& w, int64_t n0, int64_t n1, float* out, bool fp8_activations) {
  const auto* panel = static_cast<const uint8_t*>(w.data) + n0 / kPanel * quantized_panel_bytes(DType::fp8_e4m3, w.k);
  const float* scales = output_scales(w);
  float row_scale = 1.0f;
  if (fp8_activations) {
    float most = 0.0f;
    for (int64_t i = 0; i < w.k; ++i) most = std::max(most, std::fabs(to_f32(a[i])));
    row_scale = fp8_scale(most);
  }
  std::fill(out, out + (n1 - n0), 0.0f);
  for (int64_t k = 0; k < w.k; ++k) {
    const float x = fp8_activations ? to_f32(to_fp8_e4m3(to_f32(a[k]) / row_scale)) : to_f32(a[k]);
    for (int64_t n = n0; n < n1; ++n)
      out[n - n0] += x * to_f32(fp8_e4m3{panel[k / 2 * 2 * kPanel + fp8_place(n % kPanel, k % 2)]});
  }
  for (int64_t n = n0; n < n1; ++n) out[n - n0] = (fp8_activations ? out[n - n0] * row_scale : out[n - n0]) * scales[n];
}

// Outputs [n0, n1), within one panel, of the row at `a`.
template <class A>
void quantized_outputs(const A* a, const Matrix& w, int64_t n0, int64_t n1, float* out, bool fp8_activations) {
  switch (w.dtype) {
    case DType::int8: return int8_outputs(a, w, n0, n1, out);
    case DType::int4: return int4_outputs(a, w, n0, n1, out);
    default: return fp8_outputs(a, w, n0, n1, out, fp8_activations);
  }
}

}  // namespace swiftkv::cpu::scalar
