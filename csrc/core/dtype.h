// Element types and their exact conversions. Host-only, no dependencies.
// Functions have internal linkage: files compiled for different ISA levels include this header, and a shared inline
// copy could be the one compiled with AVX-512.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

namespace swiftkv {

// The numeric values are part of the boundary with TypeScript (lib/native/binding.ts).
// int8 and int4 exist as weight matrices in panels only, with scales inside (Layout::panels in core/ops.h).
enum class DType : int32_t { f32 = 0, bf16 = 1, f16 = 2, fp8_e4m3 = 3, i32 = 4, u8 = 5, int8 = 6, int4 = 7 };

// Of one element; int4 keeps two in a byte, and matrix_bytes counts them.
constexpr int64_t dtype_bytes(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::fp8_e4m3:
    case DType::u8:
    case DType::int8:
    case DType::int4: return 1;
  }
  return 0;
}

constexpr const char* dtype_name(DType t) {
  switch (t) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::fp8_e4m3: return "fp8_e4m3";
    case DType::i32: return "i32";
    case DType::u8: return "u8";
    case DType::int8: return "int8";
    case DType::int4: return "int4";
  }
  return "?";
}

// A matrix of codes and scales.
constexpr bool is_quantized(DType t) {
  return t == DType::fp8_e4m3 || t == DType::int8 || t == DType::int4;
}

// Storage types: plain bits with a distinct C++ type, so that a visitor can hand a typed value to a generic lambda.
struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};
struct fp8_e4m3 {
  uint8_t bits;
};

inline constexpr float kFp8Max = 448.0f;

static inline float to_f32(float x) {
  return x;
}

static inline float to_f32(bf16 x) {
  return std::bit_cast<float>(uint32_t{x.bits} << 16);
}

static inline float to_f32(f16 x) {
  // The exponent and mantissa fields, moved to those of f32, are the value times 2^-112, subnormals included; the
  // multiplication is exact. No branches, so that loops over it become vectors.
  const uint32_t magnitude = x.bits & 0x7fffu;
  const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude << 13) * 0x1p112f);
  const uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;
  return std::bit_cast<float>(scaled | special | uint32_t{x.bits & 0x8000u} << 16);
}

static inline float to_f32(fp8_e4m3 x) {
  const uint32_t sign = uint32_t{x.bits & 0x80u} << 24;
  const uint32_t exponent = (x.bits >> 3) & 0xfu;
  const uint32_t mantissa = x.bits & 0x7u;
  if ((x.bits & 0x7fu) == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  return std::bit_cast<float>(sign | ((exponent + 120u) << 23) | (mantissa << 20));
}

// Round to nearest, ties to even. NaN stays NaN.
static inline bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

// Round to nearest, ties to even; overflow gives infinity as IEEE says. NaN stays NaN.
static inline f16 to_f16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // below 2^-14: the f32 adder does the subnormal rounding
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

// OCP E4M3 "fn": round to nearest even, saturate to +-448 (infinities too), NaN stays NaN (0x7f with the sign).
static inline fp8_e4m3 to_fp8_e4m3(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint8_t sign = static_cast<uint8_t>((u >> 24) & 0x80u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint8_t>(sign | 0x7fu)};
  if (magnitude >= 0x43e00000u) return {static_cast<uint8_t>(sign | 0x7eu)};  // >= 448
  if (magnitude < 0x3c800000u) {  // below 2^-6: steps of 2^-9; 2^14 has that ulp
    const float shifted = std::bit_cast<float>(magnitude) + 16384.0f;
    return {static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000u))};
  }
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  return {static_cast<uint8_t>(sign | ((rounded - 0x3c000000u) >> 20))};
}

// The dynamic scale of values whose largest magnitude is max_abs: 1 where that is zero or too small to divide by.
// Codes are to_fp8_e4m3(x / scale).
static constexpr float fp8_scale(float max_abs) {
  const float scale = max_abs / kFp8Max;
  return scale > 0.0f ? scale : 1.0f;
}

template <class T>
static inline T from_f32(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return to_bf16(x);
  else if constexpr (std::is_same_v<T, f16>)
    return to_f16(x);
  else if constexpr (std::is_same_v<T, fp8_e4m3>)
    return to_fp8_e4m3(x);
  else
    return x;
}

}  // namespace swiftkv
