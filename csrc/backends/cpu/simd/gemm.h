// The matrix product of these levels: tiles of f32 sums, handed to an epilogue that knows what they are.
#pragma once

#include <cstddef>

#include "backends/cpu/avx512/gemm_plan.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/simd/product.h"

namespace swiftkv::cpu::simd {

// How a product is cut does not depend on the level: the plan decides no bits, and caches are what they are.
using avx512::div_up;
using avx512::GemmPlan;
using avx512::plan_gemm;

// Steps of one pass of all rows over k: 16 KiB (256 bytes a step) of a panel stay in L1 while the rows are walked.
inline constexpr int64_t kStepBlock = 64;

// Elements that one claim of a thread prepares: about 10 us.
inline constexpr int64_t kPrepareElements = 32 << 10;

static inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// A row of k bf16 activations in the form that a bf16 product takes, padded with zero to whole steps.
template <class V>
static inline void prepare_row(const bf16* a, int64_t k, float* out) {
  int64_t i = 0;
  for (; i + V::kLanes <= k; i += V::kLanes) store<V>(out + i, load<V>(a + i));
  for (; i < k; ++i) out[i] = to_f32(a[i]);
  if (k % 2 != 0) out[k] = 0.0f;
}

template <class V>
static inline void prepare_row(const bf16* a, int64_t k, uint32_t* out) {
  if (k % 2 != 0) out[k / 2] = 0;
  __builtin_memcpy(out, a, static_cast<size_t>(k) * sizeof(bf16));
}

// The problem of one call; a [rows, k] is contiguous and in the weights' dtype.
struct Gemm {
  const void* a;
  Matrix w;  // panels, f32 or bf16
  GemmPlan plan;
};

// The rows of a product as its Dot takes them.
template <class Dot>
struct GemmRows {
  const typename Dot::Number* data;
  int64_t stride;
};

// Bytes of the prepared rows; f32 rows are taken as they lie.
template <class V>
static inline int64_t prepared_bytes(const Gemm& g) {
  if (g.w.dtype == DType::f32) return 0;
  const int64_t numbers = g.plan.rows * div_up(g.w.k, 2) * V::Bf16Dot::kNumbers;
  return div_up(numbers * int64_t{sizeof(typename V::Bf16Dot::Number)}, 64) * 64;
}

template <class V>
static inline size_t gemm_scratch(const Gemm& g, int threads) {
  return static_cast<size_t>(prepared_bytes<V>(g) + g.plan.tile_bytes * threads);
}

template <class Dot>
static GemmRows<Dot> prepare_rows(const Gemm& g, std::byte* out, const Context& ctx) {
  const bf16* a = static_cast<const bf16*>(g.a);
  auto* data = reinterpret_cast<typename Dot::Number*>(out);
  const int64_t rows = g.plan.rows, k = g.w.k, stride = div_up(k, 2) * Dot::kNumbers;
  const int64_t at_once = kPrepareElements > k ? kPrepareElements / k : 1;
  ctx.parallel_for(div_up(rows, at_once), [&](int64_t piece, int) {
    for (int64_t r = piece * at_once; r < smaller((piece + 1) * at_once, rows); ++r)
      prepare_row<typename Dot::Vec>(a + r * k, k, data + r * stride);
  });
  return {data, stride};
}

// While the first strip of rows walks a block of weights, it brings the block behind it near. (Beyond the last one
// there is something else or nothing; a prefetch cannot fault.) out[r][c] = the product of row `row + r` and output 64
// panel + c, c < 64 panels; f32, row stride 64 panels.
template <class Dot>
static void gemm_tile(const Gemm& g, const GemmRows<Dot>& a, int64_t row, int64_t rows, int64_t panel, int64_t panels,
                      float* out) {
  const int64_t steps = avx512::gemm_steps(g.w.dtype, g.w.k), width = panels * kPanel;
  const auto* w = static_cast<const uint32_t*>(g.w.data) + panel * steps * kPanel;
  // Rows are spread evenly over the strips: 5 + 5 is faster than 6 + 4.
  const int64_t strips = div_up(rows, kRowTile);
  for (int64_t p = 0; p < panels; ++p, w += steps * kPanel) {
    for (int64_t step = 0; step == 0 || step < steps; step += kStepBlock) {
      const int64_t count = smaller(kStepBlock, steps - step);
      const auto* next = reinterpret_cast<const std::byte*>(w + (step + count) * kPanel);
      const std::byte* const fetch[] = {next, next + 64, next + 128, next + 192};
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t first = rows * i / strips;
        const Product<Dot> product{.a = a.data + (row + first) * a.stride + step * Dot::kNumbers,
                                   .a_stride = a.stride,
                                   .b = w + step * kPanel,
                                   .b_stride = kPanel,
                                   .out = out + first * width + p * kPanel,
                                   .out_stride = width,
                                   .steps = count,
                                   .add = step > 0,
                                   .fetch = i == 0 ? fetch : nullptr,
                                   .fetch_stride = i == 0 ? 4 * kPanel : 0};
        multiply<Dot>(rows * (i + 1) / strips - first, kPanel, product);
      }
    }
  }
}

template <class Dot, class Epilogue>
static void gemm_pieces(const Gemm& g, const GemmRows<Dot>& a, std::byte* tiles, const Context& ctx,
                        const Epilogue& epilogue) {
  const GemmPlan& plan = g.plan;
  const int64_t all_panels = div_up(g.w.n, kPanel);
  // Pieces that share weights are neighbours, so that threads read them from memory once.
  ctx.parallel_for(plan.pieces(), [&](int64_t piece, int worker) {
    float* sums = reinterpret_cast<float*>(tiles + plan.tile_bytes * worker);
    const int64_t row = plan.row_begin(piece % plan.row_pieces);
    const int64_t rows = plan.row_begin(piece % plan.row_pieces + 1) - row;
    const int64_t first = piece / plan.row_pieces * plan.tiles_per_piece;
    for (int64_t t = first; t < smaller(first + plan.tiles_per_piece, plan.tiles); ++t) {
      const int64_t panel = t * plan.tile_panels, panels = smaller(plan.tile_panels, all_panels - panel);
      gemm_tile<Dot>(g, a, row, rows, panel, panels, sums);
      const int64_t column = panel * kPanel, stride = panels * kPanel;
      epilogue(row, rows, column, smaller(stride, g.w.n - column), sums, stride);
    }
  });
}

// Runs the plan on the context's threads. epilogue(row, rows, column, columns, sums, stride) gets rows
// [row, row + rows) by columns [column, column + columns), all of them outputs of the matrix (never padding); it may
// overwrite the sums. `scratch`: gemm_scratch(g, ctx.threads) bytes, 64-byte aligned.
template <class V, class Epilogue>
static void gemm(const Gemm& g, std::byte* scratch, const Context& ctx, const Epilogue& epilogue) {
  if (g.w.dtype == DType::f32) {
    gemm_pieces<DotF32<V>>(g, {static_cast<const float*>(g.a), g.w.k}, scratch, ctx, epilogue);
  } else {
    using Dot = typename V::Bf16Dot;
    gemm_pieces<Dot>(g, prepare_rows<Dot>(g, scratch, ctx), scratch + prepared_bytes<V>(g), ctx, epilogue);
  }
}

}  // namespace swiftkv::cpu::simd
