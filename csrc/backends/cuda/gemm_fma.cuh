// Products in f32 without tensor cores: f32 activations with f32 weights or with fp8 codes. Each output has one
// accumulator and adds k in ascending order.
#pragma once

#include "backends/cuda/convert.h"
#include "backends/cuda/gemm_tile.cuh"
#include "backends/cuda/ptx.h"

namespace swiftkv::cuda {

struct FmaOperands {
  int64_t rows, n;
  const float* a;      // [rows][a_width]
  int32_t a_width;     // elements of a row
  int32_t k;           // a multiple of 64: the padded rows of W
  const std::byte* w;  // [n][k] f32, or fp8 codes in the order of matrix_layout.h
};

// Weight: float or fp8_e4m3. A warp has four rows and all columns of the tile, a lane every 32nd column.
template <class Weight>
struct FmaProduct {
  static constexpr TileShape kShape = tile_shape(GemmTile::plain);
  using Operands = FmaOperands;

  static constexpr int kThreads = kShape.threads();
  static constexpr int kStride = kShape.k + 4;  // floats from row to row: lanes' vectors of 16 bytes meet no bank twice
  static constexpr int kFloatsA = kShape.rows * kStride, kFloats = kFloatsA + kShape.columns * kStride;
  static constexpr int kSharedBytes = kShape.stages * kFloats * 4 > kShape.tile_bytes() ? kShape.stages* kFloats * 4
                                                                                        : kShape.tile_bytes();

  SWIFTKV_DEVICE void fetch(const Operands& o, const TilePlace& place, int columns, int step, float* buffer) {
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int j = 0; j < kShape.rows * kShape.k / kThreads; ++j) {
      const int i = thread + j * kThreads, row = i / kShape.k, at = i % kShape.k, k = step * kShape.k + at;
      const bool valid = place.row + row < o.rows && k < o.a_width;
      ptx::cp_async_4(buffer + row * kStride + at, o.a + (valid ? (place.row + row) * o.a_width + k : 0), valid);
    }
    float* to = buffer + kFloatsA;
    constexpr int kChunks = kShape.k * static_cast<int>(sizeof(Weight)) / 16;
#pragma unroll
    for (int j = 0; j < kShape.columns * kChunks / kThreads; ++j) {
      const int i = thread + j * kThreads, row = i / kChunks, chunk = i % kChunks;
      const bool valid = row < columns;
      const std::byte* src =
          o.w + ((place.column + (valid ? row : 0)) * o.k + step * kShape.k) * static_cast<int>(sizeof(Weight)) +
          chunk * 16;
      if constexpr (sizeof(Weight) == 4) {
        ptx::cp_async_16(to + row * kStride + chunk * 4, src, valid);
      } else {
        // Widened on the way, back to their order along k.
        const uint4 codes = valid ? *reinterpret_cast<const uint4*>(src) : make_uint4(0, 0, 0, 0);
        const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
        float* out = to + row * kStride + chunk * 16;
#pragma unroll
        for (int t = 0; t < 4; ++t) {
          const uint2 pairs = widen_e4m3x4(words[t]);
          *reinterpret_cast<float2*>(out + 2 * t) = make_float2(bf16_low(pairs.x), bf16_high(pairs.x));
          *reinterpret_cast<float2*>(out + 2 * t + 8) = make_float2(bf16_low(pairs.y), bf16_high(pairs.y));
        }
      }
    }
  }

  SWIFTKV_DEVICE void run(const Operands& o, std::byte* shared, const TilePlace& place, int columns) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int steps = o.k / kShape.k;
    const auto buffer = [&](int step) { return reinterpret_cast<float*>(shared) + step % 2 * kFloats; };
    float sums[4][4] = {};
    fetch(o, place, columns, 0, buffer(0));
    ptx::cp_async_commit();
    for (int step = 0; step < steps; ++step) {
      ptx::cp_async_wait<0>();
      __syncthreads();  // the step's elements are there, and nobody reads the buffer that is filled next
      if (step + 1 < steps) fetch(o, place, columns, step + 1, buffer(step + 1));
      ptx::cp_async_commit();
      const float* a = buffer(step) + warp * 4 * kStride;
      const float* w = buffer(step) + kFloatsA + lane * kStride;
#pragma unroll
      for (int k = 0; k < kShape.k; k += 4) {
        float4 x[4], y[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) x[i] = *reinterpret_cast<const float4*>(a + i * kStride + k);
#pragma unroll
        for (int j = 0; j < 4; ++j) y[j] = *reinterpret_cast<const float4*>(w + j * 32 * kStride + k);
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            float& sum = sums[i][j];
            sum = __fmaf_rn(x[i].x, y[j].x, sum);
            sum = __fmaf_rn(x[i].y, y[j].y, sum);
            sum = __fmaf_rn(x[i].z, y[j].z, sum);
            sum = __fmaf_rn(x[i].w, y[j].w, sum);
          }
      }
    }
    __syncthreads();  // the buffers become the tile
    float* tile = reinterpret_cast<float*>(shared) + warp * 4 * kShape.stride() + lane;
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j) tile[i * kShape.stride() + j * 32] = sums[i][j];
    __syncthreads();
  }
};

}  // namespace swiftkv::cuda
