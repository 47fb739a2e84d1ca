// Weight matrices of 8 and 4 bits: where codes and scales lie in their panels (Layout::panels in core/ops.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/ops.h"
#include "core/weight_codes.h"

namespace swiftkv::cpu {

inline constexpr int64_t kFp8StepBytes = kPanel * 2;  // a pair of k
inline constexpr int64_t kInt4ScaleBytes = kPanel * 2;
inline constexpr int64_t kInt4GroupBytes = kInt4ScaleBytes + kPanel * kQuantGroup / 2;

// Code bytes of one panel of a quantized matrix; int4's scales are among them.
static inline constexpr int64_t quantized_panel_bytes(DType dtype, int64_t k) {
  switch (dtype) {
    case DType::fp8_e4m3: return (k + 1) / 2 * kPanel * 2;
    case DType::int8: return (k + 3) / 4 * kPanel * 4;
    default: return (k + kQuantGroup - 1) / kQuantGroup * kInt4GroupBytes;
  }
}

// Scales per output of fp8_e4m3 and int8, [64 ceil(n/64)].
static inline float* output_scales(const Matrix& w) {
  const int64_t panels = (w.n + kPanel - 1) / kPanel;
  auto* codes = static_cast<std::byte*>(const_cast<void*>(w.data));
  return reinterpret_cast<float*>(codes + panels * quantized_panel_bytes(w.dtype, w.k));
}

// Byte of an fp8 step that has element `e` of the pair of output `lane` of the panel.
static inline constexpr int64_t fp8_place(int64_t lane, int64_t e) {
  return lane / 32 * 64 + lane % 16 / 4 * 16 + lane % 32 / 16 * 8 + lane % 4 * 2 + e;
}

}  // namespace swiftkv::cpu
