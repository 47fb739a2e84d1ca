// Which tile a matrix product runs with. Pure functions of the problem and the chip.
//
// Every tile adds the products of an output in the same order over k, so that the bits of a row do not depend on which
// one ran: the choice may follow the number of rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cuda/kernels.h"
#include "backends/cuda/matrix_layout.h"

namespace swiftkv::cuda {

// Tiles of tensor-core products, and the one of each other product. Every pair of a tile and a use is a kernel.
enum class GemmTile : int32_t {
  large,         // linear, and heads of at most 128: many rows
  middle,        // linear: rows or outputs that are too few for `large` to fill the chip
  narrow,        // linear: or for `middle`
  small,         // linear: up to 16 rows; the narrowest, so that many blocks read the weights
  heads_middle,  // heads of at most 128
  heads_small,
  wide,  // heads of at most 256
  wide_small,
  plain,  // products in f32 or of integers, without tensor cores
};

struct TileShape {
  int rows, columns, k;         // of a block
  int stages;                   // buffers of the ring of copies
  int warp_rows, warp_columns;  // of a warp
  int blocks;                   // that should share a multiprocessor
  constexpr int threads() const { return rows / warp_rows * (columns / warp_columns) * 32; }
  // Floats from row to row of the finished tile: 8 more than a multiple of 32, so that fragments meet no bank twice.
  constexpr int stride() const { return columns + 8; }
  constexpr int tile_bytes() const { return rows * stride() * 4; }
};

// With bf16 weights and the finished tile in the ring's place, every tile takes less than the 99 KiB that a block of
// sm_89 may have, and `blocks` of them less than the 164 KiB of a multiprocessor of sm_80.
constexpr TileShape tile_shape(GemmTile tile) {
  switch (tile) {
    case GemmTile::large: return {128, 128, 32, 4, 64, 32, 2};
    case GemmTile::middle: return {64, 64, 64, 3, 32, 32, 3};
    case GemmTile::narrow: return {64, 32, 64, 6, 32, 16, 2};
    case GemmTile::small: return {16, 32, 64, 8, 16, 8, 3};
    case GemmTile::heads_middle: return {64, 128, 32, 4, 64, 32, 3};
    case GemmTile::heads_small: return {16, 128, 64, 4, 16, 16, 2};
    case GemmTile::wide: return {64, 256, 32, 4, 64, 32, 2};
    case GemmTile::wide_small: return {16, 256, 32, 4, 16, 32, 2};
    case GemmTile::plain: break;
  }
  return {32, 128, 32, 2, 4, 128, 2};
}

// Up to these many rows the tiles of 16 and of 64 rows leave nothing for `large` to win.
constexpr int kSmallRows = 16, kMiddleRows = 64;

// Dynamic shared memory of tensor-core products; weight_bytes: of one element, 2 or 1.
constexpr int mma_shared_bytes(GemmTile tile, int weight_bytes) {
  const TileShape s = tile_shape(tile);
  return std::max(s.stages * s.k * (s.rows * 2 + s.columns * weight_bytes), s.tile_bytes());
}

struct GemmPlan {
  GemmTile tile;
  int32_t columns_used;  // of a tile: whole heads where there are heads
  int64_t row_tiles, column_tiles;
  constexpr int64_t blocks() const { return row_tiles * column_tiles; }
};

constexpr GemmPlan plan_of(GemmTile tile, int32_t columns_used, int64_t rows, int64_t n) {
  return {tile, columns_used, (rows + tile_shape(tile).rows - 1) / tile_shape(tile).rows,
          (n + columns_used - 1) / columns_used};
}

constexpr GemmPlan plan_of(GemmTile tile, int64_t rows, int64_t n) {
  return plan_of(tile, tile_shape(tile).columns, rows, n);
}

// y = a W^T with activations of 16 bits.
constexpr GemmPlan plan_linear(int64_t rows, int64_t n, const DeviceLimits& limits) {
  if (rows <= kSmallRows) return plan_of(GemmTile::small, rows, n);
  const auto fills = [&](GemmTile tile) { return plan_of(tile, rows, n).blocks() >= limits.num_sms; };
  if (rows > kMiddleRows && fills(GemmTile::large)) return plan_of(GemmTile::large, rows, n);
  return plan_of(fills(GemmTile::middle) ? GemmTile::middle : GemmTile::narrow, rows, n);
}

// Heads that fit a tile are finished in it; of wider ones the sums go through memory.
constexpr int32_t kWidestMmaHead = 256;
constexpr int32_t kWidestPlainHead = tile_shape(GemmTile::plain).columns;

constexpr GemmPlan plan_heads(int64_t rows, int64_t heads, int32_t head_dim, const DeviceLimits& limits) {
  const auto tiles = [&](GemmTile tile) {
    return plan_of(tile, tile_shape(tile).columns / head_dim * head_dim, rows, heads * head_dim);
  };
  const bool wide = head_dim > tile_shape(GemmTile::large).columns;
  if (rows <= kSmallRows) return tiles(wide ? GemmTile::wide_small : GemmTile::heads_small);
  if (wide) return tiles(GemmTile::wide);
  const GemmPlan large = tiles(GemmTile::large);
  return rows > kMiddleRows && large.blocks() >= limits.num_sms ? large : tiles(GemmTile::heads_middle);
}

constexpr GemmPlan plan_plain(int64_t rows, int64_t n) {
  return plan_of(GemmTile::plain, rows, n);
}

constexpr GemmPlan plan_plain_heads(int64_t rows, int64_t heads, int32_t head_dim) {
  return plan_of(GemmTile::plain, kWidestPlainHead / head_dim * head_dim, rows, heads * head_dim);
}

}  // namespace swiftkv::cuda
