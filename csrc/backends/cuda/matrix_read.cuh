// Reads rows of weight matrices as f32, 16 elements along k at a time; the layouts are matrix_layout.h's. The decoders
// take words of codes, wherever they come from.
#pragma once

#include "backends/cuda/convert.h"
#include "backends/cuda/matrix_layout.h"
#include "backends/cuda/vectors.h"

namespace swiftkv::cuda {

inline constexpr int kReadK = 16;

SWIFTKV_DEVICE uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// ---- 16 codes of one row, k ascending; scales are the caller's ----

SWIFTKV_DEVICE void decode_fp8(const uint4& codes, float (&out)[kReadK]) {
#pragma unroll
  for (int i = 0; i < kReadK; ++i) {
    const int place = static_cast<int>(fp8_place(i));
    out[i] = load_f32(fp8_e4m3{static_cast<uint8_t>(word_of(codes, place / 4) >> 8 * (place % 4))});
  }
}

SWIFTKV_DEVICE void decode_int8(const uint4& codes, float (&out)[kReadK]) {
#pragma unroll
  for (int i = 0; i < kReadK; ++i)
    out[i] = static_cast<float>(static_cast<int8_t>(word_of(codes, i / 4) >> 8 * (i % 4)));
}

SWIFTKV_DEVICE void decode_int4(const uint2& codes, float (&out)[kReadK]) {
#pragma unroll
  for (int i = 0; i < kReadK; ++i) {
    const uint32_t word = i < 8 ? codes.x : codes.y;
    out[i] = static_cast<float>(static_cast<int>(word >> 4 * (i % 8) & 15u) - 8);
  }
}

// ---- from memory ----

// What follows the codes or elements of a matrix in panels.
SWIFTKV_DEVICE const void* matrix_scales(const Matrix& w) {
  return static_cast<const std::byte*>(w.data) + matrix_value_bytes(w.dtype, w.n, w.k);
}

// Elements [k, k + 16) of a row in panels, scaled; k is a multiple of 16, and padding reads as zeros.
template <DType kDtype>
SWIFTKV_DEVICE void read_panel_row(const Matrix& w, int64_t row, int64_t k, float (&out)[kReadK]) {
  if constexpr (kDtype == DType::f32 || kDtype == DType::bf16) {
    using T = std::conditional_t<kDtype == DType::f32, float, bf16>;
    const T* p = static_cast<const T*>(w.data) + row * pad_k(w.k) + k;
    load_vector(p, reinterpret_cast<float(&)[kVector]>(out[0]));
    load_vector(p + kVector, reinterpret_cast<float(&)[kVector]>(out[kVector]));
  } else if constexpr (kDtype == DType::f16) {
    const auto* p = reinterpret_cast<const uint4*>(static_cast<const f16*>(w.data) + row * pad_k(w.k) + k);
    const uint4 halves[2] = {p[0], p[1]};
#pragma unroll
    for (int i = 0; i < kReadK / 2; ++i) {
      const float2 pair = ptx::unpack_f16x2(word_of(halves[i / 4], i % 4));
      out[2 * i] = pair.x, out[2 * i + 1] = pair.y;
    }
  } else if constexpr (kDtype == DType::int4) {
    const auto* codes = static_cast<const std::byte*>(w.data) + (row * pad_k(w.k) + k) / 2;
    decode_int4(*reinterpret_cast<const uint2*>(codes), out);
    const int64_t group = (row * pad_k(w.k) + k) / kQuantGroup;
    const float scale = load_f32(static_cast<const f16*>(matrix_scales(w))[group]);
#pragma unroll
    for (int i = 0; i < kReadK; ++i) out[i] *= scale;
  } else {
    const auto* codes = static_cast<const std::byte*>(w.data) + row * pad_k(w.k) + k;
    const uint4 words = *reinterpret_cast<const uint4*>(codes);
    if constexpr (kDtype == DType::fp8_e4m3) {
      decode_fp8(words, out);
    } else {
      decode_int8(words, out);
    }
    const float scale = static_cast<const float*>(matrix_scales(w))[row];
#pragma unroll
    for (int i = 0; i < kReadK; ++i) out[i] *= scale;
  }
}

// The same of a row-major matrix, whose rows may begin anywhere: elements past the row's end are 0.
template <DType kDtype>
SWIFTKV_DEVICE void read_plain_row(const Matrix& w, int64_t row, int64_t k, float (&out)[kReadK]) {
  using T = std::conditional_t<kDtype == DType::f32, float, std::conditional_t<kDtype == DType::bf16, bf16, f16>>;
  const T* p = static_cast<const T*>(w.data) + row * w.k + k;
#pragma unroll
  for (int i = 0; i < kReadK; ++i) out[i] = k + i < w.k ? load_f32(p[i]) : 0.0f;
}

}  // namespace swiftkv::cuda
