// Products with int8 and int4 weights, as core/ops.h defines them: activations in int8 codes with a scale per group of
// 32, exact sums within a group, then one f32 multiply-add per group, ascending.
#pragma once

#include "backends/cuda/convert.h"
#include "backends/cuda/gemm_tile.cuh"
#include "backends/cuda/ptx.h"

namespace swiftkv::cuda {

struct IntegerOperands {
  int64_t rows, n;
  int32_t k;              // a multiple of 64: the padded rows of W
  const int8_t* a;        // [rows][k]; for int4 weights every 8 codes are first the even, then the odd ones
  const float* a_scales;  // [rows][k / 32]
  const std::byte* w;     // [n][k] int8 codes, or [n][k / 2] pairs of int4 codes
  const f16* w_scales;    // int4: [n][k / 32]
};

// kBits: 8 or 4. Threads share the tile as in FmaProduct.
template <int kBits>
struct IntegerProduct {
  static constexpr TileShape kShape = tile_shape(GemmTile::plain);
  using Operands = IntegerOperands;

  static constexpr int kThreads = kShape.threads();
  static constexpr int kGroup = static_cast<int>(kQuantGroup);
  static_assert(kShape.k == kGroup);
  static constexpr int kRowBytesW = kGroup * kBits / 8;
  // Bytes from row to row: lanes' vectors of 16 bytes meet no bank twice.
  static constexpr int kStrideA = kGroup, kStrideW = kBits == 8 ? 48 : 16;
  static constexpr int kBytesA = kShape.rows * kStrideA, kBytesScales = kShape.rows * 4;
  static constexpr int kBytes = kBytesA + kBytesScales + kShape.columns * kStrideW;
  static constexpr int kSharedBytes = kShape.stages * kBytes > kShape.tile_bytes() ? kShape.stages* kBytes
                                                                                   : kShape.tile_bytes();

  SWIFTKV_DEVICE void fetch(const Operands& o, const TilePlace& place, int columns, int step, std::byte* buffer) {
    const int thread = static_cast<int>(threadIdx.x), groups = o.k / kGroup;
    constexpr int kCopiesA = kShape.rows * kGroup / 16;
    if (thread < kCopiesA) {
      const int row = thread / 2, chunk = thread % 2;
      const bool valid = place.row + row < o.rows;
      const int8_t* src = o.a + (valid ? (place.row + row) * o.k + step * kGroup + chunk * 16 : 0);
      ptx::cp_async_16(buffer + row * kStrideA + chunk * 16, src, valid);
    } else if (thread < kCopiesA + kShape.rows) {
      const int row = thread - kCopiesA;
      const bool valid = place.row + row < o.rows;
      ptx::cp_async_4(buffer + kBytesA + row * 4, o.a_scales + (valid ? (place.row + row) * groups + step : 0), valid);
    }
    std::byte* to = buffer + kBytesA + kBytesScales;
    constexpr int kChunks = kRowBytesW / 16, kCopiesW = kShape.columns * kChunks;
    if (thread < kCopiesW) {
      const int row = thread / kChunks, chunk = thread % kChunks;
      const bool valid = row < columns;
      const int64_t w_row = place.column + (valid ? row : 0);
      ptx::cp_async_16(to + row * kStrideW + chunk * 16, o.w + (w_row * groups + step) * kRowBytesW + chunk * 16,
                       valid);
    }
  }

  // The exact sum of one group; `sum_a`: of the activations' codes.
  SWIFTKV_DEVICE int dot_group(const uint4 (&x)[2], const uint4 (&w)[2], int sum_a) {
    if constexpr (kBits == 8) {
      int sum = 0;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        sum = dot4(x[h].x, w[h].x, sum);
        sum = dot4(x[h].y, w[h].y, sum);
        sum = dot4(x[h].z, w[h].z, sum);
        sum = dot4(x[h].w, w[h].w, sum);
      }
      return sum;
    } else {
      int sum = -8 * sum_a;  // the codes are q + 8
      const auto eight = [&](uint32_t even, uint32_t odd, uint32_t codes) {
        sum = dot4(even, codes & 0x0f0f0f0fu, sum);
        sum = dot4(odd, codes >> 4 & 0x0f0f0f0fu, sum);
      };
      eight(x[0].x, x[0].y, w[0].x);
      eight(x[0].z, x[0].w, w[0].y);
      eight(x[1].x, x[1].y, w[0].z);
      eight(x[1].z, x[1].w, w[0].w);
      return sum;
    }
  }

  SWIFTKV_DEVICE int dot4(uint32_t a, uint32_t b, int c) { return __dp4a(static_cast<int>(a), static_cast<int>(b), c); }

  SWIFTKV_DEVICE void multiply(const Operands& o, const TilePlace& place, int columns, int step,
                               const std::byte* buffer, float (&sums)[4][4]) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const std::byte* a = buffer + warp * 4 * kStrideA;
    const std::byte* w = buffer + kBytesA + kBytesScales + lane * kStrideW;
    uint4 y[4][2];
    float w_scale[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const std::byte* codes = w + j * 32 * kStrideW;
      y[j][0] = *reinterpret_cast<const uint4*>(codes);
      y[j][1] = kBits == 8 ? *reinterpret_cast<const uint4*>(codes + 16) : make_uint4(0, 0, 0, 0);
      w_scale[j] = 1.0f;
      if constexpr (kBits == 4) {
        const int column = lane + j * 32;
        if (column < columns) w_scale[j] = load_f32(o.w_scales[(place.column + column) * (o.k / kGroup) + step]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const auto* codes = reinterpret_cast<const uint4*>(a + i * kStrideA);
      const uint4 x[2] = {codes[0], codes[1]};
      const float scale = reinterpret_cast<const float*>(buffer + kBytesA)[warp * 4 + i];
      int sum_a = 0;
      if constexpr (kBits == 4) {
        constexpr uint32_t kOnes = 0x01010101u;
#pragma unroll
        for (int h = 0; h < 2; ++h)
          sum_a = dot4(x[h].x, kOnes, dot4(x[h].y, kOnes, dot4(x[h].z, kOnes, dot4(x[h].w, kOnes, sum_a))));
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const auto sum = static_cast<float>(dot_group(x, y[j], sum_a));
        sums[i][j] = __fmaf_rn(sum, kBits == 8 ? scale : __fmul_rn(scale, w_scale[j]), sums[i][j]);
      }
    }
  }

  SWIFTKV_DEVICE void run(const Operands& o, std::byte* shared, const TilePlace& place, int columns) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int steps = o.k / kGroup;
    const auto buffer = [&](int step) { return shared + step % 2 * kBytes; };
    float sums[4][4] = {};
    fetch(o, place, columns, 0, buffer(0));
    ptx::cp_async_commit();
    for (int step = 0; step < steps; ++step) {
      ptx::cp_async_wait<0>();
      __syncthreads();  // the step's codes are there, and nobody reads the buffer that is filled next
      if (step + 1 < steps) fetch(o, place, columns, step + 1, buffer(step + 1));
      ptx::cp_async_commit();
      multiply(o, place, columns, step, buffer(step), sums);
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
