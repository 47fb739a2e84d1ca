// The matrix product of this level: tiles of f32 sums, handed to an epilogue that knows what they are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/avx512/gemm_plan.h"
#include "backends/cpu/kernels.h"
#include "core/ops.h"

namespace swiftkv::cpu::avx512 {

struct Gemm {
  const void* a;  // [rows, k], contiguous, in the weights' dtype
  Matrix w;       // panels, f32 or bf16
};

// Rows [row, row + rows) by panels [panel, panel + panels).
struct GemmTile {
  int64_t row, rows;
  int64_t panel, panels;
  bool more;  // the panels behind these are the caller's next
};

// out[r][c] = sum over k of a[row + r][k] w[64 panel + c][k], c < 64 panels; f32, row stride 64 panels.
// One accumulator per output, k ascending (bf16: pairs, as vdpbf16ps adds them: the odd element's product first, then
// the even one's, each rounded, subnormals read and written as zero). Reads no element outside row [k].
void gemm_tile(const Gemm& g, const GemmTile& tile, int64_t step_block, float* out);

// Runs the plan on the context's threads. epilogue(row, rows, column, columns, sums, stride) gets rows
// [row, row + rows) by columns [column, column + columns), all of them outputs of the matrix (never padding); it may
// overwrite the sums. `tiles`: gemm_scratch(plan, ctx.threads) bytes, 64-byte aligned.
template <class Epilogue>
static inline void gemm(const Gemm& g, const GemmPlan& plan, std::byte* tiles, const Context& ctx,
                        const Epilogue& epilogue) {
  const int64_t all_panels = div_up(g.w.n, kPanel);
  // Pieces that share weights are neighbours, so that threads read them from memory once.
  ctx.parallel_for(plan.pieces(), [&](int64_t piece, int worker) {
    float* sums = reinterpret_cast<float*>(tiles + plan.tile_bytes * worker);
    GemmTile tile;
    tile.row = plan.row_begin(piece % plan.row_pieces);
    tile.rows = plan.row_begin(piece % plan.row_pieces + 1) - tile.row;
    const int64_t first = piece / plan.row_pieces * plan.tiles_per_piece;
    const int64_t last = at_most(first + plan.tiles_per_piece, plan.tiles);
    for (int64_t t = first; t < last; ++t) {
      tile.panel = t * plan.tile_panels;
      tile.panels = at_most(plan.tile_panels, all_panels - tile.panel);
      tile.more = t + 1 < last;
      gemm_tile(g, tile, plan.step_block, sums);
      const int64_t column = tile.panel * kPanel, stride = tile.panels * kPanel;
      epilogue(tile.row, tile.rows, column, at_most(stride, g.w.n - column), sums, stride);
    }
  });
}

}  // namespace swiftkv::cpu::avx512
