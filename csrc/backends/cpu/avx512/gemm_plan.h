// How a matrix product y = a W^T is cut into pieces: a pure function of the problem, printable, without intrinsics.
// A plan never decides bits: every output is one accumulator that takes k in ascending order, whatever the pieces.
// The figures were measured on Zen 5 (48 KiB L1, 1 MiB L2, 40 GB/s and 400 bf16 GFLOP/s a core).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "backends/cpu/quantized.h"
#include "core/ops.h"

namespace swiftkv::cpu::avx512 {

// Rows of the microkernel (a strip): 6 x 4 zmm accumulators, 4 zmm of weights and 1 broadcast fit the 32 registers,
// and 24 independent chains cover two multiply-adds a cycle at a latency of 4 to 6.
inline constexpr int kRowTile = 6;

// A step: one k of an f32 panel, one pair of a bf16 panel, four k of an int8 panel. Codes of fp8 are widened to such
// steps, and the 8 steps of a group of int4 are read as 1152 bytes.
inline constexpr int64_t kStepBytes = 256;

// Steps of one pass of all strips over k. With many strips, 256 KiB of a panel stay in L2 while the rows are walked,
// and reloading the accumulators is rare. With few, the pass over memory must overlap with arithmetic: 16 KiB stay in
// L1 while the next 16 KiB are brought there, which is worth a third at 16 rows and costs 8% at 512.
inline constexpr int64_t kStepBlock = 1024;
inline constexpr int64_t kNearStepBlock = 64;
inline constexpr int64_t kNearStrips = 8;

// Rows of one piece at most: the first strip over a block of weights may wait for memory, the other 31 do not.
inline constexpr int64_t kRowBlock = 32 * kRowTile;

// f32 tile of one thread at most (unless 6 rows of whole heads need more): stays in L2 beside the weights.
inline constexpr int64_t kTileBytes = 128 << 10;

// A piece costs its weight bytes times its strips; 1 MiB is about 25 us. Smaller pieces than the least are not worth
// the claim, an atomic increment that all threads contend for. Larger ones than the most would leave the others waiting
// at the end, or make a lost core cost more than itself. In between, neighbouring tiles join as long as every thread
// still finds several pieces, because the first block of a piece is not brought near by the block before it.
inline constexpr int64_t kLeastPieceCost = 128 << 10;
inline constexpr int64_t kMostPieceCost = 8 << 20;
inline constexpr int64_t kMostPieceWeights = 1 << 20;
inline constexpr int64_t kPiecesPerThread = 8;

struct GemmPlan {
  int64_t rows;
  int64_t row_pieces;       // rows are cut evenly: piece i starts at row_begin(i)
  int64_t tile_panels;      // panels of one tile; an epilogue sees whole tiles
  int64_t tiles;            // tiles across n; the last one may be short
  int64_t tiles_per_piece;  // neighbours in memory, walked in ascending order
  int64_t column_pieces;
  int64_t step_block;
  int64_t tile_bytes;   // f32 tile of one thread
  int64_t block_bytes;  // widened weights of one pass, of one thread: fp8 that several strips share

  int64_t pieces() const { return row_pieces * column_pieces; }
  int64_t row_begin(int64_t piece) const { return rows * piece / row_pieces; }
};

static inline constexpr int64_t div_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

static inline constexpr int64_t at_most(int64_t a, int64_t limit) {
  return a < limit ? a : limit;
}

static inline constexpr int64_t at_least(int64_t a, int64_t limit) {
  return a > limit ? a : limit;
}

// Steps of a row of `k` elements of f32 or bf16 weights (fp8_e4m3: in bf16).
static inline constexpr int64_t gemm_steps(DType weights, int64_t k) {
  return weights == DType::f32 ? k : div_up(k, 2);
}

// Bytes of a panel in memory, without scales of outputs.
static inline constexpr int64_t gemm_panel_bytes(DType weights, int64_t k) {
  return is_quantized(weights) ? quantized_panel_bytes(weights, k) : gemm_steps(weights, k) * kStepBytes;
}

// Bytes that a strip walks when many share a panel: as if it were widened to steps.
static inline constexpr int64_t gemm_walked_bytes(DType weights, int64_t k) {
  switch (weights) {
    case DType::fp8_e4m3: return gemm_panel_bytes(weights, k) * 2;
    case DType::int4: return div_up(k, kQuantGroup) * (kQuantGroup / 4) * kStepBytes;
    default: return gemm_panel_bytes(weights, k);
  }
}

// `unit`: columns that a tile must hold whole (1, or head_dim). A tile is a number of whole panels and of whole units,
// or all of n where n is smaller than that. rows and threads >= 1; n is a multiple of unit.
static inline constexpr GemmPlan plan_gemm(DType weights, int64_t rows, int64_t n, int64_t k, int64_t unit,
                                           int threads) {
  const int64_t panels = div_up(n, kPanel);
  GemmPlan plan{};
  plan.rows = rows;
  plan.tile_panels = 1;
  while (plan.tile_panels < panels && plan.tile_panels * kPanel % unit != 0) ++plan.tile_panels;
  plan.tiles = div_up(panels, plan.tile_panels);

  const int64_t row_bytes = plan.tile_panels * kPanel * int64_t{sizeof(float)};
  const int64_t fitting = at_most(kTileBytes / row_bytes / kRowTile * kRowTile, kRowBlock);
  const int64_t row_block = at_most(rows, at_least(fitting, kRowTile));
  plan.row_pieces = div_up(rows, row_block);
  plan.tile_bytes = row_bytes * row_block;

  const int64_t strips = div_up(row_block, kRowTile);
  plan.step_block = strips > 1 && strips <= kNearStrips ? kNearStepBlock : kStepBlock;

  // The last pass takes the element that an odd k leaves over as a step more.
  plan.block_bytes = weights == DType::fp8_e4m3 && strips > 1 ? (plan.step_block + 1) * kStepBytes : 0;

  const int64_t panel_bytes = strips > 1 ? gemm_walked_bytes(weights, k) : gemm_panel_bytes(weights, k);
  const int64_t weight_bytes = plan.tile_panels * at_least(panel_bytes, kStepBytes);
  const int64_t fair = plan.tiles * plan.row_pieces / (kPiecesPerThread * threads);
  const int64_t most = at_most(kMostPieceWeights / weight_bytes, kMostPieceCost / (weight_bytes * strips));
  const int64_t least = at_least(kLeastPieceCost / (weight_bytes * strips), 1);
  plan.tiles_per_piece = at_least(at_most(fair, most), least);
  plan.column_pieces = div_up(plan.tiles, plan.tiles_per_piece);
  return plan;
}

// Scratch of all threads' tiles and blocks. Never less than what any plan for fewer rows needs.
static inline constexpr size_t plan_scratch(const GemmPlan& plan, int threads) {
  return static_cast<size_t>(plan.tile_bytes + plan.block_bytes) * static_cast<size_t>(threads);
}

// "512 rows in 3, 48 tiles of 1 panels, 1 a piece, 144 pieces, 1024 steps a pass, tile 49152 B"
static inline int describe(const GemmPlan& plan, char* out, size_t capacity) {
  return std::snprintf(
      out, capacity,
      "%lld rows in %lld, %lld tiles of %lld panels, %lld a piece, %lld pieces, %lld steps a pass, tile %lld B",
      static_cast<long long>(plan.rows), static_cast<long long>(plan.row_pieces), static_cast<long long>(plan.tiles),
      static_cast<long long>(plan.tile_panels), static_cast<long long>(plan.tiles_per_piece),
      static_cast<long long>(plan.pieces()), static_cast<long long>(plan.step_block),
      static_cast<long long>(plan.tile_bytes));
}

}  // namespace swiftkv::cpu::avx512
