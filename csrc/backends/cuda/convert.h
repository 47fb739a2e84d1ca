// Conversions of elements in device code: those of core/dtype.h by the instructions of the device where it has them,
// with the same bits (NaN payloads aside). sm_80 has no instructions for e4m3: there they are integer arithmetic.
#pragma once

#include <cstdint>

#include "backends/cuda/ptx.h"
#include "core/dtype.h"

namespace swiftkv::cuda {

// A pair of bf16 in one word: the lower half is the first.
SWIFTKV_DEVICE float bf16_low(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
SWIFTKV_DEVICE float bf16_high(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

SWIFTKV_DEVICE float load_f32(float x) {
  return x;
}
SWIFTKV_DEVICE float load_f32(bf16 x) {
  return __uint_as_float(uint32_t{x.bits} << 16);
}
SWIFTKV_DEVICE float load_f32(f16 x) {
  return ptx::unpack_f16x2(x.bits).x;
}

// e4m3 without instructions: the exponent and mantissa moved to f32's place are the value times 2^-120, subnormals
// included, so one exact product gives the value. 0x7f is NaN.
SWIFTKV_DEVICE float load_f32(fp8_e4m3 x) {
  const uint32_t magnitude = x.bits & 0x7fu, sign = uint32_t{x.bits & 0x80u} << 24;
  const float value = __uint_as_float(magnitude << 20) * 0x1p120f;
  return __uint_as_float((magnitude == 0x7fu ? 0x7fc00000u : __float_as_uint(value)) | sign);
}

template <class T>
SWIFTKV_DEVICE T store_as(float x);

template <>
__device__ inline float store_as<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 store_as<bf16>(float x) {
  return {static_cast<uint16_t>(ptx::pack_bf16x2(x, 0.0f))};
}
template <>
__device__ inline f16 store_as<f16>(float x) {
  return {static_cast<uint16_t>(ptx::pack_f16x2(x, 0.0f))};
}

// Two codes in the lower 16 bits, nearest even, saturating at 448.
SWIFTKV_DEVICE uint32_t pack_e4m3(float lo, float hi) {
#if !defined(__CUDACC__) || __CUDA_ARCH__ >= 890
  return ptx::pack_e4m3x2(lo, hi);
#else
  const auto code = [](float x) {
    const uint32_t u = __float_as_uint(x), sign = (u >> 24) & 0x80u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fu;
    if (magnitude >= 0x43e00000u) return sign | 0x7eu;
    if (magnitude < 0x3c800000u)  // below 2^-6: steps of 2^-9; 2^14 has that ulp
      return sign | (__float_as_uint(__uint_as_float(magnitude) + 16384.0f) - 0x46800000u);
    return sign | ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u) - 0x3c000000u) >> 20);
  };
  return code(lo) | code(hi) << 8;
#endif
}

template <>
__device__ inline fp8_e4m3 store_as<fp8_e4m3>(float x) {
  return {static_cast<uint8_t>(pack_e4m3(x, 0.0f))};
}

// Four codes as two bf16 pairs, exactly (e4m3 is a subset of bf16). NaN stays NaN. Products with fp8 weights spend much
// of their time here.
SWIFTKV_DEVICE uint2 widen_e4m3x4(uint32_t codes) {
#if defined(__CUDACC__) && __CUDA_ARCH__ >= 890
  const float2 low = ptx::unpack_f16x2(ptx::unpack_e4m3x2_f16x2(static_cast<uint16_t>(codes)));
  const float2 high = ptx::unpack_f16x2(ptx::unpack_e4m3x2_f16x2(static_cast<uint16_t>(codes >> 16)));
  return make_uint2(ptx::pack_bf16x2(low.x, low.y), ptx::pack_bf16x2(high.x, high.y));
#else
  // As in load_f32(fp8_e4m3), but the sign travels with the code's other bits, which an arithmetic shift moves down.
  const auto widen = [](uint32_t top) {
    const uint32_t moved = static_cast<uint32_t>(static_cast<int32_t>(top) >> 4) & 0x87f00000u;
    return __float_as_uint(__uint_as_float(moved) * 0x1p120f);
  };
  // 0x7f comes out as 480. In its place the exponent's missing bits make it NaN: a 1 for every byte that is one.
  const uint32_t nan = ((codes & 0x7f7f7f7fu) + 0x01010101u) >> 7 & 0x01010101u;
  const uint32_t low = __byte_perm(widen(codes << 24), widen(codes << 16), 0x7632);
  const uint32_t high = __byte_perm(widen(codes << 8), widen(codes), 0x7632);
  return make_uint2(low + __byte_perm(nan, 0, 0x4140) * 0x3c00u, high + __byte_perm(nan, 0, 0x4342) * 0x3c00u);
#endif
}

}  // namespace swiftkv::cuda
