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

// tile[r][c] = sum over k of a[row + r][k] w[64 panel + c][k], r < rows, c < 64 panels; f32, row stride 64 panels.
// One accumulator per output, k ascending (bf16: pairs, as vdpbf16ps adds them: the odd element's product first, then
// the even one's, each rounded, subnormals read and written as zero). Reads no element outside row [k].
void gemm_tile(const Gemm& g, int64_t row, int64_t rows, int64_t panel, int64_t panels, float* tile);

// Runs the plan on the context's threads. epilogue(row, rows, column, columns, tile, stride) gets sums of rows
// [row, row + rows) and columns [column, column + columns), all of them outputs of the matrix (never padding); it may
// overwrite the tile. `tiles`: gemm_scratch(plan, ctx.threads) bytes, 64-byte aligned.
template <class Epilogue>
static inline void gemm(const Gemm& g, const GemmPlan& plan, std::byte* tiles, const Context& ctx,
                        const Epilogue& epilogue) {
  const int64_t width = plan.tile_panels * kPanel;
  const int64_t all_panels = (g.w.n + kPanel - 1) / kPanel;
  // Pieces that share weights are neighbours, so that threads read them from memory once.
  ctx.parallel_for(plan.pieces(), [&](int64_t piece, int worker) {
    const int64_t row = plan.row_begin(piece % plan.row_pieces);
    const int64_t rows = plan.row_begin(piece % plan.row_pieces + 1) - row;
    const int64_t first = piece / plan.row_pieces * plan.tiles_per_piece;
    const int64_t last = first + plan.tiles_per_piece < plan.tiles ? first + plan.tiles_per_piece : plan.tiles;
    float* tile = reinterpret_cast<float*>(tiles + plan.tile_bytes * worker);
    for (int64_t t = first; t < last; ++t) {
      const int64_t panel = t * plan.tile_panels;
      const int64_t panels = panel + plan.tile_panels < all_panels ? plan.tile_panels : all_panels - panel;
      const int64_t column = panel * kPanel;
      const int64_t columns = column + width < g.w.n ? width : g.w.n - column;
      gemm_tile(g, row, rows, panel, panels, tile);
      epilogue(row, rows, column, columns, tile, panels * kPanel);
    }
  });
}

}  // namespace swiftkv::cpu::avx512
