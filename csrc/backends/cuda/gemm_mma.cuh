// Products on tensor cores: bf16 activations with bf16 weights, or with fp8 codes that become bf16 in registers. Each
// output has one f32 accumulator that mma adds to in steps of 16 along k, ascending, in every tile.
#pragma once

#include "backends/cuda/convert.h"
#include "backends/cuda/gemm_tile.cuh"
#include "backends/cuda/ptx.h"

namespace swiftkv::cuda {

struct MmaOperands {
  int64_t rows, n;
  const bf16* a;       // [rows][a_stride], 16-byte aligned rows
  int64_t a_stride;    // a multiple of 8
  int32_t a_width;     // elements of a row to read, a multiple of 8; zeros behind them up to k
  int32_t k;           // a multiple of 64: the padded rows of W
  const std::byte* w;  // [n][k] bf16, or fp8 codes in the order of matrix_layout.h
};

// Weight: bf16 or fp8_e4m3.
template <GemmTile kTile, class Weight>
struct MmaProduct {
  static constexpr TileShape kShape = tile_shape(kTile);
  using Operands = MmaOperands;

  static constexpr int kThreads = kShape.threads();
  static constexpr int kWarpColumns = kShape.columns / kShape.warp_columns;  // warps side by side
  static constexpr int kRowFragments = kShape.warp_rows / 16, kColumnFragments = kShape.warp_columns / 8;
  static constexpr int kRowBytesA = kShape.k * 2, kRowBytesW = kShape.k * static_cast<int>(sizeof(Weight));
  static constexpr int kBytesA = kShape.rows * kRowBytesA, kBytesW = kShape.columns * kRowBytesW;
  static constexpr int kStages = kShape.stages;

  using Sums = float[kRowFragments][kColumnFragments][4];

  // What a thread copies at every step: the same 16 bytes of rows kRowsA or kRowsW apart, which are swizzled alike.
  static constexpr int kChunksA = kRowBytesA / 16, kChunksW = kRowBytesW / 16;
  static constexpr int kRowsA = kThreads / kChunksA, kRowsW = kThreads / kChunksW;
  static_assert(kRowsA % 8 == 0 && kRowsW % 8 == 0);
  struct Copies {
    const bf16* a;       // of step 0
    const std::byte* w;  // of step 0
    int rows, columns;   // that are there, counted from the thread's first
    int k;               // of its 16 bytes of a
  };

  SWIFTKV_DEVICE Copies copies_of(const Operands& o, const TilePlace& place, int columns) {
    const int thread = static_cast<int>(threadIdx.x);
    const int row = thread / kChunksA, k = thread % kChunksA * 8, column = thread / kChunksW;
    const int rows = at_most(kShape.rows, o.rows - place.row);
    const int64_t w = (place.column + column) * o.k * static_cast<int>(sizeof(Weight)) + thread % kChunksW * 16;
    return {o.a + (place.row + row) * o.a_stride + k, o.w + w, rows - row, columns - column, k};
  }

  // Queues the copies of step `step` (elements [step * k, ...) of the rows) into one buffer of the ring. Rows and
  // elements that are not there become zeros and are not read.
  SWIFTKV_DEVICE void fetch(const Operands& o, const Copies& copies, int step, std::byte* buffer) {
    const int thread = static_cast<int>(threadIdx.x), k = step * kShape.k;
    const bool in_row = copies.k + k < o.a_width;
    std::byte* to = buffer + swizzle<kRowBytesA>(thread / kChunksA, thread % kChunksA) * 16;
#pragma unroll
    for (int row = 0; row < kShape.rows; row += kRowsA) {
      if (kRowsA > kShape.rows && thread >= kShape.rows * kChunksA) break;
      ptx::cp_async_16(to + row * kRowBytesA, copies.a + k + int64_t{row} * o.a_stride, in_row && row < copies.rows);
    }
    to = buffer + kBytesA + swizzle<kRowBytesW>(thread / kChunksW, thread % kChunksW) * 16;
    const std::byte* w = copies.w + int64_t{k} * static_cast<int>(sizeof(Weight));
#pragma unroll
    for (int row = 0; row < kShape.columns; row += kRowsW) {
      if (kRowsW > kShape.columns && thread >= kShape.columns * kChunksW) break;
      ptx::cp_async_16(to + row * kRowBytesW, w + int64_t{row} * o.k * static_cast<int>(sizeof(Weight)),
                       row < copies.columns);
    }
  }

  // The B fragments of 16 elements along k (the kk-th of the buffer) of the warp's columns.
  SWIFTKV_DEVICE void load_w(const std::byte* buffer, int column, int kk, uint32_t (&b)[kColumnFragments][2]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if constexpr (sizeof(Weight) == 2) {
      if constexpr (kColumnFragments == 1) {
        const int row = column + lane % 8, chunk = 2 * kk + lane / 8 % 2;
        ptx::ldmatrix_x2(b[0], buffer + swizzle<kRowBytesW>(row, chunk) * 16);
      } else {
#pragma unroll
        for (int j = 0; j < kColumnFragments; j += 2) {
          const int row = column + j * 8 + lane / 16 * 8 + lane % 8, chunk = 2 * kk + lane / 8 % 2;
          uint32_t r[4];
          ptx::ldmatrix_x4(r, buffer + swizzle<kRowBytesW>(row, chunk) * 16);
          b[j][0] = r[0], b[j][1] = r[1], b[j + 1][0] = r[2], b[j + 1][1] = r[3];
        }
      }
    } else {
      // 16 codes of a row are one row of an 8 x 8 matrix of 16-bit elements: a lane gets the word it needs.
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) {
        const int row = column + j * 8 + lane / 4;
        const uint32_t codes =
            *reinterpret_cast<const uint32_t*>(buffer + swizzle<kRowBytesW>(row, kk) * 16 + lane % 4 * 4);
        const uint2 pairs = widen_e4m3x4(codes);
        b[j][0] = pairs.x, b[j][1] = pairs.y;
      }
    }
  }

  SWIFTKV_DEVICE void multiply(const std::byte* buffer, int row, int column, Sums& sums) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int kk = 0; kk < kShape.k / 16; ++kk) {
      uint32_t a[kRowFragments][4], b[kColumnFragments][2];
#pragma unroll
      for (int i = 0; i < kRowFragments; ++i)
        ptx::ldmatrix_x4(a[i], buffer + swizzle<kRowBytesA>(row + i * 16 + lane % 16, 2 * kk + lane / 16) * 16);
      load_w(buffer + kBytesA, column, kk, b);
#pragma unroll
      for (int i = 0; i < kRowFragments; ++i)
#pragma unroll
        for (int j = 0; j < kColumnFragments; ++j) ptx::mma_bf16(sums[i][j], a[i], b[j]);
    }
  }

  SWIFTKV_DEVICE void run(const Operands& o, std::byte* shared, const TilePlace& place, int columns) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int row = warp / kWarpColumns * kShape.warp_rows, column = warp % kWarpColumns * kShape.warp_columns;
    const int steps = o.k / kShape.k;
    const Copies copies = copies_of(o, place, columns);
    Sums sums = {};
    const auto buffer = [&](int step) { return shared + step % kStages * (kBytesA + kBytesW); };
#pragma unroll
    for (int step = 0; step < kStages - 1; ++step) {
      if (step < steps) fetch(o, copies, step, buffer(step));
      ptx::cp_async_commit();
    }
    for (int step = 0; step < steps; ++step) {
      ptx::cp_async_wait<kStages - 2>();
      __syncthreads();  // the step's bytes are there, and nobody reads the buffer that is filled next
      if (step + kStages - 1 < steps) fetch(o, copies, step + kStages - 1, buffer(step + kStages - 1));
      ptx::cp_async_commit();
      multiply(buffer(step), row, column, sums);
    }
    ptx::cp_async_wait<0>();
    __syncthreads();  // the ring becomes the tile
    float* tile = reinterpret_cast<float*>(shared) + (row + lane / 4) * kShape.stride() + column + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kRowFragments; ++i)
#pragma unroll
      for (int j = 0; j < kColumnFragments; ++j) {
        const float(&d)[4] = sums[i][j];
        float* at = tile + i * 16 * kShape.stride() + j * 8;
        *reinterpret_cast<float2*>(at) = make_float2(d[0], d[1]);
        *reinterpret_cast<float2*>(at + 8 * kShape.stride()) = make_float2(d[2], d[3]);
      }
    __syncthreads();
  }
};

}  // namespace swiftkv::cuda
