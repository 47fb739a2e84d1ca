// How a matrix product y = a W^T is cut into pieces: pure functions of the problem, printable, no intrinsics.
// A plan never decides bits: every output is one accumulator that takes k in ascending order, whatever the pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "core/ops.h"

namespace swiftkv::cpu::avx512 {

// Rows of the microkernel: 6 x 4 zmm accumulators, 4 zmm of weights and 1 broadcast fit the 32 registers, and 24
// independent chains cover two multiply-adds a cycle at a latency of 4 to 6.
inline constexpr int kRowTile = 6;

// Weights are read 256 bytes a step: one k of a f32 panel, one pair of a bf16 panel.
inline constexpr int64_t kStepBytes = 256;

// Steps of one pass over k. 1024 steps are 256 KiB of a panel: with the rows' data that stays in a 1 MiB L2 while the
// rows are walked, and reloading 24 accumulators costs 24 of 12,288 cycles. Measured on Zen 5: 256 steps lose 4%,
// 4096 steps 8% to 12%.
inline constexpr int64_t kStepBlock = 1024;

// Rows of one piece at most: the first strip over a block of weights waits for memory, the other 31 do not.
inline constexpr int64_t kRowBlock = 32 * kRowTile;

// f32 tile of one thread at most (unless 6 rows of whole heads need more): stays in L2 beside the weights.
inline constexpr int64_t kTileBytes = 128 << 10;

// A piece reads at least this much weight times strips (about 4 us): the claim of a piece is an atomic increment that
// other threads contend for.
inline constexpr int64_t kPieceBytes = 128 << 10;

struct GemmPlan {
  int64_t rows;
  int64_t row_pieces;       // rows are cut evenly: piece i starts at row_begin(i)
  int64_t tile_panels;      // panels of one tile; an epilogue sees whole tiles
  int64_t tiles;            // tiles across n; the last one may be short
  int64_t tiles_per_piece;  // neighbours in memory, walked in ascending order
  int64_t column_pieces;
  int64_t tile_bytes;  // f32 tile of one thread

  int64_t pieces() const { return row_pieces * column_pieces; }
  int64_t row_begin(int64_t piece) const { return rows * piece / row_pieces; }
};

// Steps of a row of `k` elements.
static inline constexpr int64_t gemm_steps(DType weights, int64_t k) {
  return weights == DType::f32 ? k : (k + 1) / 2;
}

// `unit`: columns that a tile must hold whole (1 for linear, head_dim for heads). A tile is a number of whole panels
// and of whole units, or all of n when n is smaller than that.
static inline constexpr GemmPlan plan_gemm(DType weights, int64_t rows, int64_t n, int64_t k, int64_t unit) {
  const int64_t panels = (n + kPanel - 1) / kPanel;
  int64_t whole = 1;  // panels until a unit ends where a panel ends
  while (whole < panels && whole * kPanel % unit != 0) ++whole;
  GemmPlan plan{};
  plan.rows = rows;
  plan.tile_panels = whole;
  plan.tiles = (panels + plan.tile_panels - 1) / plan.tile_panels;

  const int64_t row_bytes = plan.tile_panels * kPanel * 4;
  int64_t block = kTileBytes / row_bytes / kRowTile * kRowTile;
  block = block < kRowTile ? kRowTile : block > kRowBlock ? kRowBlock : block;
  plan.row_pieces = (rows + block - 1) / block;
  plan.tile_bytes = row_bytes * (rows < block ? rows : block);

  const int64_t strips = (rows < block ? rows + kRowTile - 1 : block) / kRowTile;
  const int64_t tile_cost = plan.tile_panels * gemm_steps(weights, k) * kStepBytes * strips;
  plan.tiles_per_piece = tile_cost > 0 && tile_cost < kPieceBytes ? kPieceBytes / tile_cost : 1;
  plan.column_pieces = (plan.tiles + plan.tiles_per_piece - 1) / plan.tiles_per_piece;
  return plan;
}

// Scratch of all threads' tiles, for at most `rows` rows (a plan for fewer rows needs no more).
static inline constexpr size_t gemm_scratch(const GemmPlan& plan, int threads) {
  return static_cast<size_t>(plan.tile_bytes) * static_cast<size_t>(threads);
}

static inline int describe(const GemmPlan& plan, char* out, size_t capacity) {
  return std::snprintf(
      out, capacity, "rows %lld in %lld, tiles %lld x %lld panels, %lld a piece, %lld B tile, %lld pieces",
      static_cast<long long>(plan.rows), static_cast<long long>(plan.row_pieces), static_cast<long long>(plan.tiles),
      static_cast<long long>(plan.tile_panels), static_cast<long long>(plan.tiles_per_piece),
      static_cast<long long>(plan.tile_bytes), static_cast<long long>(plan.pieces()));
}

}  // namespace swiftkv::cpu::avx512
