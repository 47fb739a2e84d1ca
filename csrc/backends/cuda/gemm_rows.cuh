// Activations turned into codes with scales.
#pragma once

#include <cmath>
#include <cstdint>

#include "backends/cuda/convert.h"
#include "backends/cuda/warp.h"
#include "core/ops.h"

namespace swiftkv::cuda {

inline constexpr int kRowThreads = 256;  // of a block that makes one row

// One row becomes e4m3 codes with one scale, as quantize_rows says. T: type of the activations. Out: fp8_e4m3 for the
// codes, bf16 for what they are worth, in rows of `stride` with zeros behind the width.
template <class T, class Out>
__global__ void __launch_bounds__(kRowThreads)
    fp8_rows(const T* a, int64_t width, int64_t stride, Out* out, float* scales) {
  SWIFTKV_SHARED(float, partial, [kRowThreads / kWarp]);
  const int64_t row = blockIdx.x;
  const T* in = a + row * width;
  float most = 0.0f;
  for (int64_t i = threadIdx.x; i < width; i += kRowThreads) most = fmaxf(most, fabsf(load_f32(in[i])));
  const float scale = fp8_scale(block_max(most, partial));
  for (int64_t i = threadIdx.x; i < stride; i += kRowThreads) {
    const float x = i < width ? load_f32(in[i]) / scale : 0.0f;
    const fp8_e4m3 code = store_as<fp8_e4m3>(x);
    if constexpr (sizeof(Out) == 1)
      out[row * stride + i] = code;
    else
      out[row * stride + i] = store_as<Out>(load_f32(code));
  }
  if (threadIdx.x == 0) scales[row] = scale;
}

// One row becomes int8 codes with a scale per group of 32, as LinearParams says; a warp makes a group. `even_first`:
// of every 8 codes first the even ones, then the odd ones.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    integer_rows(const T* a, int64_t width, int64_t stride, bool even_first, int8_t* codes, float* scales) {
  const int64_t row = blockIdx.x, groups = stride / kQuantGroup;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int to = even_first ? lane / 8 * 8 + lane % 2 * 4 + lane % 8 / 2 : lane;
  for (int64_t group = static_cast<int>(threadIdx.x) / kWarp; group < groups; group += kRowThreads / kWarp) {
    const int64_t i = group * kQuantGroup + lane;
    const float x = i < width ? load_f32(a[row * width + i]) : 0.0f;
    uint32_t bits = __float_as_uint(x) & 0x7fffffffu;  // as integers they order like the numbers, NaN above all
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const uint32_t other = __shfl_xor_sync(kAllLanes, bits, offset);
      bits = bits < other ? other : bits;
    }
    const float most = __uint_as_float(bits);
    float scale = most / 127.0f, code = 0.0f;
    if (bits >= 0x7f800000u)
      scale = __uint_as_float(0x7fffffffu);
    else if (most < kQuantLeast)
      scale = 0.0f;
    else
      code = rintf(__fmul_rn(x, 127.0f / most));
    codes[row * stride + group * kQuantGroup + to] = static_cast<int8_t>(static_cast<int>(code));
    if (lane == 0) scales[row * groups + group] = scale;
  }
}

}  // namespace swiftkv::cuda
