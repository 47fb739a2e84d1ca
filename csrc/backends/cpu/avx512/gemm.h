// The matrix product of this level: tiles of f32 sums, handed to an epilogue that knows what they are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/avx512/gemm_plan.h"
#include "backends/cpu/avx512/gemm_rows.h"
#include "backends/cpu/kernels.h"
#include "core/ops.h"

namespace swiftkv::cpu::avx512 {

// Rows [row, row + rows) by panels [panel, panel + panels).
struct GemmTile {
  int64_t row, rows;
  int64_t panel, panels;
  bool more;  // the panels behind these are the caller's next
};

// out[r][c] = sum over k of a[row + r][k] w[64 panel + c][k], c < 64 panels; f32, row stride 64 panels; codes of 8 bits
// without the scales of their outputs and rows (scale_tile). One accumulator per output, k ascending (bf16: pairs, as
// vdpbf16ps adds them: the odd element's product first, then the even one's, each rounded, subnormals read and written
// as zero; integers: groups of 32, see LinearParams). Reads no element outside row [k]. block: GemmPlan::block_bytes.
void gemm_tile(const Gemm& g, const GemmRows& a, const GemmTile& tile, int64_t step_block, std::byte* block,
               float* out);
void gemm_tile_int8(const Gemm& g, const GemmRows& a, const GemmTile& tile, int64_t step_block, float* out);

// Multiplies finished sums by the scales of rows and outputs, in this order.
void scale_tile(const Gemm& g, const GemmRows& a, const GemmTile& tile, float* sums);

static inline size_t gemm_scratch(const Gemm& g, const GemmPlan& plan, int threads) {
  return prepared_bytes(g, plan.rows) + plan_scratch(plan, threads);
}

// Runs the plan on the context's threads. epilogue(row, rows, column, columns, sums, stride) gets rows
// [row, row + rows) by columns [column, column + columns), all of them outputs of the matrix (never padding); it may
// overwrite the sums. `scratch`: gemm_scratch(g, plan, ctx.threads) bytes, 64-byte aligned.
template <class Epilogue>
static inline void gemm(const Gemm& g, const GemmPlan& plan, std::byte* scratch, const Context& ctx,
                        const Epilogue& epilogue) {
  const int64_t all_panels = div_up(g.w.n, kPanel);
  const GemmRows a = prepare_rows(g, plan.rows, scratch, ctx);
  std::byte* const tiles = scratch + prepared_bytes(g, plan.rows);
  const bool integers = arithmetic_of(g) == Arithmetic::int8;
  // Pieces that share weights are neighbours, so that threads read them from memory once.
  ctx.parallel_for(plan.pieces(), [&](int64_t piece, int worker) {
    std::byte* const own = tiles + (plan.tile_bytes + plan.block_bytes) * worker;
    float* sums = reinterpret_cast<float*>(own);
    GemmTile tile;
    tile.row = plan.row_begin(piece % plan.row_pieces);
    tile.rows = plan.row_begin(piece % plan.row_pieces + 1) - tile.row;
    const int64_t first = piece / plan.row_pieces * plan.tiles_per_piece;
    const int64_t last = at_most(first + plan.tiles_per_piece, plan.tiles);
    for (int64_t t = first; t < last; ++t) {
      tile.panel = t * plan.tile_panels;
      tile.panels = at_most(plan.tile_panels, all_panels - tile.panel);
      tile.more = t + 1 < last;
      if (integers)
        gemm_tile_int8(g, a, tile, plan.step_block, sums);
      else
        gemm_tile(g, a, tile, plan.step_block, own + plan.tile_bytes, sums);
      if (is_quantized(g.w.dtype)) scale_tile(g, a, tile, sums);
      const int64_t column = tile.panel * kPanel, stride = tile.panels * kPanel;
      epilogue(tile.row, tile.rows, column, at_most(stride, g.w.n - column), sums, stride);
    }
  });
}

}  // namespace swiftkv::cpu::avx512
