// The frame of every matrix product: which tile of y = a W^T a block makes, and what happens to it. A Product leaves
// the sums of its tile in shared memory as f32, a Finish turns them into what the op writes; so the two combine freely.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/gemm_plan.h"
#include "backends/cuda/platform.h"

namespace swiftkv::cuda {

// Tiles in the order of blocks: bands of kBand tiles of rows, within a band column by column, so that blocks that run
// together share tiles of a and of W in the L2 cache.
struct TileGrid {
  int32_t row_tiles, column_tiles, columns_used;

  static constexpr int kBand = 16;
};

struct TilePlace {
  int64_t row;     // first of the tile
  int64_t column;  // first of the tile
};

SWIFTKV_DEVICE int at_most(int limit, int64_t x) {
  return x < limit ? static_cast<int>(x) : limit;
}

SWIFTKV_DEVICE TilePlace tile_place(const TileGrid& grid, int tile_rows) {
  const int block = static_cast<int>(blockIdx.x), band_blocks = TileGrid::kBand * grid.column_tiles;
  const int first = block / band_blocks * TileGrid::kBand, within = block % band_blocks;
  const int rows = at_most(TileGrid::kBand, grid.row_tiles - first);
  return {int64_t{first + within % rows} * tile_rows, int64_t{within / rows} * grid.columns_used};
}

// The sums of one tile; rows and columns beyond those of y hold nothing of use.
struct FinishedTile {
  float* values;  // [tile rows][stride], shared memory
  int stride;
  int64_t row, column;  // of y, first of the tile
  int rows, columns;    // of y in the tile, at most the tile's
};

// Product: static constexpr TileShape kShape; struct Operands {rows, n, ...}; a run() by all threads of the block that
// ends with the sums in shared memory and all threads past a barrier.
template <class Product, class Finish>
__global__ void __launch_bounds__(Product::kShape.threads(), Product::kShape.blocks)
    gemm(typename Product::Operands operands, Finish finish, TileGrid grid) {
  SWIFTKV_DYNAMIC_SHARED(std::byte, shared);
  constexpr TileShape shape = Product::kShape;
  const TilePlace place = tile_place(grid, shape.rows);
  const int rows = at_most(shape.rows, operands.rows - place.row);
  const int columns = at_most(grid.columns_used, operands.n - place.column);
  Product::run(operands, shared, place, columns);
  finish.template run<shape.rows, shape.columns, shape.threads()>(
      FinishedTile{reinterpret_cast<float*>(shared), shape.stride(), place.row, place.column, rows, columns});
}

// Which 16 bytes of a row have the row's `chunk`-th: rows of 32, 64 or 128 bytes, one after the other, so that any
// eight rows' same chunk lies in eight different groups of banks.
template <int kRowBytes>
SWIFTKV_DEVICE int swizzle(int row, int chunk) {
  static_assert(kRowBytes == 32 || kRowBytes == 64 || kRowBytes == 128);
  constexpr int kRowsOfLine = 128 / kRowBytes, kChunks = kRowBytes / 16;
  return row * kChunks + (chunk ^ (row / kRowsOfLine % kChunks));
}

}  // namespace swiftkv::cuda
