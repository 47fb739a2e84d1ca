// What linear does with the sums of a tile: scales, bias, and storing or adding to the residual stream.
#pragma once

#include "backends/cuda/convert.h"
#include "backends/cuda/gemm_tile.cuh"

namespace swiftkv::cuda {

// y = sums * row_scale * w_scale + bias, or y + that. Every step rounds on its own, so that all tiles give one result.
struct LinearFinish {
  void* y;  // [rows][n]
  int64_t n;
  DType dtype;  // of y: f32 or bf16
  bool accumulate;
  const float* bias;        // [n] or null
  const float* w_scales;    // [n] or null
  const float* row_scales;  // [rows] or null

  // Four columns of a thread.
  struct Columns {
    float scale[4], bias[4];
  };

  __device__ float value(float sum, float row_scale, float w_scale, float b) const {
    return __fadd_rn(__fmul_rn(__fmul_rn(sum, row_scale), w_scale), b);
  }

  __device__ void store(int64_t at, float x) const {
    if (dtype == DType::f32) {
      float* out = static_cast<float*>(y) + at;
      *out = accumulate ? __fadd_rn(*out, x) : x;
    } else {
      static_cast<bf16*>(y)[at] = store_as<bf16>(x);
    }
  }

  // Rows are whole numbers of four elements, so that `at` is aligned to them.
  __device__ void store4(int64_t at, const float (&x)[4]) const {
    if (dtype == DType::f32) {
      float4* out = reinterpret_cast<float4*>(static_cast<float*>(y) + at);
      float4 v = make_float4(x[0], x[1], x[2], x[3]);
      if (accumulate) {
        const float4 old = *out;
        v = make_float4(__fadd_rn(old.x, v.x), __fadd_rn(old.y, v.y), __fadd_rn(old.z, v.z), __fadd_rn(old.w, v.w));
      }
      *out = v;
    } else {
      *reinterpret_cast<uint2*>(static_cast<bf16*>(y) + at) =
          make_uint2(ptx::pack_bf16x2(x[0], x[1]), ptx::pack_bf16x2(x[2], x[3]));
    }
  }

  template <int kRows, int kColumns, int kThreads>
  __device__ void run(const FinishedTile& tile) const {
    constexpr int kRowThreads = kColumns / 4, kPassRows = kThreads / kRowThreads;
    static_assert(kThreads % kRowThreads == 0 && kRows % kPassRows == 0);
    const int thread = static_cast<int>(threadIdx.x), first = thread % kRowThreads * 4;
    float scale[4], add[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const bool valid = first + c < tile.columns;
      const int64_t column = tile.column + first + c;
      scale[c] = valid && w_scales != nullptr ? w_scales[column] : 1.0f;
      add[c] = valid && bias != nullptr ? bias[column] : 0.0f;
    }
    const bool aligned = n % 4 == 0;
#pragma unroll 4
    for (int j = 0; j < kRows / kPassRows; ++j) {
      const int row = thread / kRowThreads + j * kPassRows;
      if (row >= tile.rows) break;
      const float row_scale = row_scales != nullptr ? row_scales[tile.row + row] : 1.0f;
      const float4 sum = *reinterpret_cast<const float4*>(tile.values + row * tile.stride + first);
      const float x[4] = {value(sum.x, row_scale, scale[0], add[0]), value(sum.y, row_scale, scale[1], add[1]),
                          value(sum.z, row_scale, scale[2], add[2]), value(sum.w, row_scale, scale[3], add[3])};
      const int64_t at = (tile.row + row) * n + tile.column + first;
      if (aligned && first + 4 <= tile.columns) {
        store4(at, x);
      } else {
#pragma unroll
        for (int c = 0; c < 4; ++c)
          if (first + c < tile.columns) store(at + c, x[c]);
      }
    }
  }
};

}  // namespace swiftkv::cuda
