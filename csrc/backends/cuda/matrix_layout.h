// What Layout::panels means on this backend: rows of W [n, k] one after the other, each padded with zeros to a
// multiple of 64 elements, so that a tile's copies are whole and aligned.
//   f32, bf16, f16: [n][pad_k(k)]
//   fp8_e4m3:       [n][pad_k(k)] codes, then [n] f32 scales. In every 16 codes of a row, the four bytes 4 t.. of
//                   t = 0..3 are k = 2t, 2t + 1, 2t + 8, 2t + 9: one word is what lane t of a 16 x 8 fragment needs
//   int8:           [n][pad_k(k)] codes q, then [n] f32 scales
//   int4:           [n][pad_k(k) / 2] bytes, q + 8 of k = 2 j in the low half of byte j, of 2 j + 1 in the high half
//                   (padding is q = 0); then [n][pad_k(k) / 32] f16, a scale per 32 elements along k
// Layout::row_major is [n][k] without padding or scales, for tables that are only looked up.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/ops.h"

namespace swiftkv::cuda {

inline constexpr int64_t kPadK = 64;

constexpr int64_t pad_k(int64_t k) {
  return (k + kPadK - 1) / kPadK * kPadK;
}

// Place of element k of a row of fp8 codes: 16 j + 4 (r % 8 / 2) + 2 (r / 8) + r % 2 for k = 16 j + r.
constexpr int64_t fp8_place(int64_t k) {
  const int64_t r = k % 16;
  return k - r + 4 * (r % 8 / 2) + 2 * (r / 8) + r % 2;
}

// Bytes of the codes or elements, before any scales.
constexpr int64_t matrix_value_bytes(DType dtype, int64_t n, int64_t k) {
  return dtype == DType::int4 ? n * pad_k(k) / 2 : n * pad_k(k) * dtype_bytes(dtype);
}

constexpr int64_t matrix_scale_bytes(DType dtype, int64_t n, int64_t k) {
  switch (dtype) {
    case DType::fp8_e4m3:
    case DType::int8: return n * 4;
    case DType::int4: return n * (pad_k(k) / kQuantGroup) * 2;
    default: return 0;
  }
}

}  // namespace swiftkv::cuda
