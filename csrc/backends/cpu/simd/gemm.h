// The matrix product of these levels: tiles of f32 sums, handed to an epilogue that knows what they are.
#pragma once

#include <cstddef>

#include "backends/cpu/simd/gemm_rows.h"
#include "backends/cpu/simd/int8_product.h"
#include "backends/cpu/simd/visit_float.h"

namespace swiftkv::cpu::simd {

// Steps of one pass of all rows over k: 16 KiB (256 bytes a step) of a panel stay in L1 while the rows are walked.
inline constexpr int64_t kStepBlock = 64;

// The problem of one call; a [rows, k] is contiguous and in the weights' dtype unless they are quantized.
struct Gemm {
  Activation a;
  Matrix w;  // panels
  bool fp8_activations;
  GemmPlan plan;
};

static inline bool in_integers(const Gemm& g) {
  return g.w.dtype == DType::int8 || g.w.dtype == DType::int4;
}

// Pairs of bf16 are multiplied as the level does that; codes of fp8 with other activations as f32.
static inline bool in_bf16(const Gemm& g) {
  return g.w.dtype == DType::bf16 || (g.a.dtype == DType::bf16 && !g.fp8_activations);
}

// The rows of a product as its arithmetic takes them.
template <class T>
struct GemmRows {
  const T* data;
  int64_t stride;
  const float* scales = nullptr;  // integers: [rows, groups]; fp8 activations: [rows]
};

template <class Dot>
static inline int64_t dot_row_bytes(int64_t k) {
  return div_up(k, 2) * Dot::kNumbers * int64_t{sizeof(typename Dot::Number)};
}

// Bytes of the prepared rows; f32 rows meet f32 weights as they lie.
template <class V>
static inline int64_t prepared_bytes(const Gemm& g) {
  const int64_t rows = g.plan.rows, groups = div_up(g.w.k, kQuantGroup);
  if (in_integers(g)) return aligned(rows * groups * kQuantGroup) + aligned(rows * groups * 4);
  if (g.w.dtype == DType::f32) return 0;
  if (in_bf16(g)) return aligned(rows * dot_row_bytes<typename V::Bf16Dot>(g.w.k));
  return aligned(rows * dot_row_bytes<DotWidened<V>>(g.w.k)) + aligned(rows * 4);
}

// One thread's block of widened codes.
static inline int64_t block_bytes(const Gemm& g) {
  return g.w.dtype == DType::fp8_e4m3 ? kStepBlock * avx512::kStepBytes : 0;
}

template <class V>
static inline size_t gemm_scratch(const Gemm& g, int threads) {
  return static_cast<size_t>(prepared_bytes<V>(g) + (g.plan.tile_bytes + block_bytes(g)) * threads);
}

template <class Dot>
static GemmRows<typename Dot::Number> prepare_rows(const Gemm& g, std::byte* out, const Context& ctx) {
  using V = typename Dot::Vec;
  auto* data = reinterpret_cast<typename Dot::Number*>(out);
  const int64_t rows = g.plan.rows, k = g.w.k, stride = div_up(k, 2) * Dot::kNumbers;
  if constexpr (sizeof(typename Dot::Number) == sizeof(float) && Dot::kParts == 2) {
    auto* scales = reinterpret_cast<float*>(out + aligned(rows * stride * 4));
    visit_float(g.a.dtype, [&]<class T>(T) {
      const T* a = static_cast<const T*>(g.a.data);
      for_rows(rows, k, ctx, [&](int64_t r) {
        if (g.fp8_activations)
          scales[r] = prepare_fp8_row<V>(a + r * k, k, data + r * stride);
        else
          prepare_row<V>(a + r * k, k, data + r * stride);
      });
    });
    return {data, stride, g.fp8_activations ? scales : nullptr};
  } else {
    const bf16* a = static_cast<const bf16*>(g.a.data);
    for_rows(rows, k, ctx, [&](int64_t r) { prepare_row<V>(a + r * k, k, data + r * stride); });
    return {data, stride};
  }
}

static inline GemmRows<int8_t> prepare_int8_rows(const Gemm& g, std::byte* out, const Context& ctx) {
  const int64_t rows = g.plan.rows, k = g.w.k, groups = div_up(k, kQuantGroup), stride = groups * kQuantGroup;
  auto* codes = reinterpret_cast<int8_t*>(out);
  auto* scales = reinterpret_cast<float*>(out + aligned(rows * stride));
  visit_float(g.a.dtype, [&]<class T>(T) {
    const T* a = static_cast<const T*>(g.a.data);
    for_rows(rows, k, ctx, [&](int64_t r) { prepare_int8_row(a + r * k, k, codes + r * stride, scales + r * groups); });
  });
  return {codes, stride, scales};
}

// The pairs of codes of the outputs from `lane` on; four neighbours lie together.
template <class V>
static inline typename V::U8Pairs fp8_pairs(const std::byte* step, int64_t lane) {
  if constexpr (V::kLanes == 4) {
    return read<typename V::U8Pairs>(step + fp8_place(lane, 0));
  } else {
    static_assert(V::kLanes == 8);
    // Put together in a register: a load cannot take what two stores have just written.
    using Fours [[gnu::vector_size(16)]] = uint64_t;
    const Fours fours = {read<uint64_t>(step + fp8_place(lane, 0)), read<uint64_t>(step + fp8_place(lane + 4, 0))};
    return reinterpret_cast<typename V::U8Pairs>(fours);
  }
}

// `steps` of fp8 codes as pairs of bf16.
template <class V>
static void widen_block(const std::byte* codes, int64_t steps, uint32_t* out) {
  for (int64_t i = 0; i < steps; ++i, codes += kFp8StepBytes, out += kPanel) {
#pragma GCC unroll 16
    for (int64_t lane = 0; lane < kPanel; lane += V::kLanes) {
      write(out + lane, widen_fp8_pairs<V>(fp8_pairs<V>(codes, lane)));
    }
  }
}

// While the first strip of rows walks a block of weights, it brings the block behind it near. (Beyond the last one
// there is something else or nothing; a prefetch cannot fault.) out[r][c] = the product of row `row + r` and output 64
// panel + c, c < 64 panels; f32, row stride 64 panels. Codes of fp8 are widened to `block` first.
template <class Dot>
static void gemm_tile(const Gemm& g, const GemmRows<typename Dot::Number>& a, int64_t row, int64_t rows, int64_t panel,
                      int64_t panels, uint32_t* block, float* out) {
  const bool widen = g.w.dtype == DType::fp8_e4m3;
  const int64_t steps = avx512::gemm_steps(g.w.dtype, g.w.k), width = panels * kPanel;
  const int64_t step_bytes = widen ? kFp8StepBytes : avx512::kStepBytes;
  const auto* w = static_cast<const std::byte*>(g.w.data) + panel * steps * step_bytes;
  // Rows are spread evenly over the strips: 5 + 5 is faster than 6 + 4.
  const int64_t strips = div_up(rows, kRowTile);
  for (int64_t p = 0; p < panels; ++p, w += steps * step_bytes) {
    for (int64_t step = 0; step == 0 || step < steps; step += kStepBlock) {
      const int64_t count = smaller(kStepBlock, steps - step);
      const std::byte* const from = w + step * step_bytes;
      const std::byte* const next = from + count * step_bytes;
      // Codes of fp8 are half as many bytes: two of the four lines that a step fetches are near already.
      const std::byte* const fetch[] = {next, next + 64, widen ? next : next + 128, widen ? next + 64 : next + 192};
      if (widen) widen_block<typename Dot::Vec>(from, count, block);
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t first = rows * i / strips;
        const Product<Dot> product{.a = a.data + (row + first) * a.stride + step * Dot::kNumbers,
                                   .a_stride = a.stride,
                                   .b = widen ? block : reinterpret_cast<const uint32_t*>(from),
                                   .b_stride = kPanel,
                                   .out = out + first * width + p * kPanel,
                                   .out_stride = width,
                                   .steps = count,
                                   .add = step > 0,
                                   .fetch = i == 0 ? fetch : nullptr,
                                   .fetch_stride = i == 0 ? step_bytes : 0};
        multiply<Dot>(rows * (i + 1) / strips - first, kPanel, product);
      }
    }
  }
}

// The same for integers; a block is a number of groups.
template <class V, class W>
static void gemm_tile_int8(const Gemm& g, const GemmRows<int8_t>& a, int64_t row, int64_t rows, int64_t panel,
                           int64_t panels, float* out) {
  constexpr int64_t kBlock = kStepBlock / kGroupSteps;
  const int64_t groups = div_up(g.w.k, kQuantGroup), width = panels * kPanel;
  const int64_t panel_bytes = quantized_panel_bytes(g.w.dtype, g.w.k), strips = div_up(rows, kRowTile);
  const auto* w = static_cast<const std::byte*>(g.w.data) + panel * panel_bytes;
  for (int64_t p = 0; p < panels; ++p, w += panel_bytes) {
    for (int64_t group = 0; group < groups; group += kBlock) {
      const int64_t count = smaller(kBlock, groups - group);
      const std::byte* const from = w + group * W::kGroupBytes;
      for (int64_t at = 0; at < count * W::kGroupBytes; at += 64)
        __builtin_prefetch(from + count * W::kGroupBytes + at);
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t first = rows * i / strips;
        const Int8Product product{
            .a = a.data + (row + first) * a.stride + group * kQuantGroup,
            .a_stride = a.stride,
            .a_scales = a.scales + (row + first) * groups + group,
            .scale_stride = groups,
            .w = from,
            .groups = count,
            .last_steps = smaller(kGroupSteps, div_up(g.w.k - (group + count - 1) * kQuantGroup, 4)),
            .add = group > 0,
            .out = out + first * width + p * kPanel,
            .out_stride = width};
        multiply_int8<V, W>(rows * (i + 1) / strips - first, product);
      }
    }
  }
}

// Multiplies finished sums by the scales of rows and outputs, in this order.
template <class V>
static void scale_tile(const Gemm& g, const float* row_scales, int64_t row, int64_t rows, int64_t panel, int64_t panels,
                       float* sums) {
  const int64_t width = panels * kPanel;
  const float* scales = output_scales(g.w) + panel * kPanel;
  for (int64_t r = 0; r < rows; ++r, sums += width) {
    for (int64_t c = 0; c < width; c += V::kLanes) {
      typename V::F32 sum = load<V>(sums + c);
      if (row_scales != nullptr) sum = sum * set<V>(row_scales[row + r]);
      store<V>(sums + c, sum * load<V>(scales + c));
    }
  }
}

// multiply(row, rows, panel, panels, block, sums) makes a tile.
template <class V, class Multiply, class Epilogue>
static void gemm_pieces(const Gemm& g, const float* row_scales, std::byte* tiles, const Context& ctx,
                        const Multiply& multiply_tile_of, const Epilogue& epilogue) {
  const GemmPlan& plan = g.plan;
  const int64_t all_panels = div_up(g.w.n, kPanel);
  // Pieces that share weights are neighbours, so that threads read them from memory once.
  ctx.parallel_for(plan.pieces(), [&](int64_t piece, int worker) {
    std::byte* const own = tiles + (plan.tile_bytes + block_bytes(g)) * worker;
    float* sums = reinterpret_cast<float*>(own);
    const int64_t row = plan.row_begin(piece % plan.row_pieces);
    const int64_t rows = plan.row_begin(piece % plan.row_pieces + 1) - row;
    const int64_t first = piece / plan.row_pieces * plan.tiles_per_piece;
    for (int64_t t = first; t < smaller(first + plan.tiles_per_piece, plan.tiles); ++t) {
      const int64_t panel = t * plan.tile_panels, panels = smaller(plan.tile_panels, all_panels - panel);
      multiply_tile_of(row, rows, panel, panels, reinterpret_cast<uint32_t*>(own + plan.tile_bytes), sums);
      if (g.w.dtype == DType::fp8_e4m3 || g.w.dtype == DType::int8)
        scale_tile<V>(g, row_scales, row, rows, panel, panels, sums);
      const int64_t column = panel * kPanel, stride = panels * kPanel;
      epilogue(row, rows, column, smaller(stride, g.w.n - column), sums, stride);
    }
  });
}

template <class Dot, class Epilogue>
static void gemm_dot(const Gemm& g, const GemmRows<typename Dot::Number>& a, std::byte* tiles, const Context& ctx,
                     const Epilogue& epilogue) {
  const auto tile = [&](int64_t row, int64_t rows, int64_t panel, int64_t panels, uint32_t* block, float* sums) {
    gemm_tile<Dot>(g, a, row, rows, panel, panels, block, sums);
  };
  gemm_pieces<typename Dot::Vec>(g, a.scales, tiles, ctx, tile, epilogue);
}

template <class V, class W, class Epilogue>
static void gemm_int8(const Gemm& g, const GemmRows<int8_t>& a, std::byte* tiles, const Context& ctx,
                      const Epilogue& epilogue) {
  const auto tile = [&](int64_t row, int64_t rows, int64_t panel, int64_t panels, uint32_t*, float* sums) {
    gemm_tile_int8<V, W>(g, a, row, rows, panel, panels, sums);
  };
  gemm_pieces<V>(g, nullptr, tiles, ctx, tile, epilogue);
}

// Runs the plan on the context's threads. epilogue(row, rows, column, columns, sums, stride) gets rows
// [row, row + rows) by columns [column, column + columns), all of them outputs of the matrix (never padding); it may
// overwrite the sums. `scratch`: gemm_scratch(g, ctx.threads) bytes, 64-byte aligned.
template <class V, class Epilogue>
static void gemm(const Gemm& g, std::byte* scratch, const Context& ctx, const Epilogue& epilogue) {
  std::byte* const tiles = scratch + prepared_bytes<V>(g);
  if (in_integers(g)) {
    const GemmRows<int8_t> a = prepare_int8_rows(g, scratch, ctx);
    if (g.w.dtype == DType::int8)
      gemm_int8<V, Int8Weights<V>>(g, a, tiles, ctx, epilogue);
    else
      gemm_int8<V, Int4Weights<V>>(g, a, tiles, ctx, epilogue);
  } else if (g.w.dtype == DType::f32) {
    gemm_dot<DotF32<V>>(g, {static_cast<const float*>(g.a.data), g.w.k}, tiles, ctx, epilogue);
  } else if (in_bf16(g)) {
    using Dot = typename V::Bf16Dot;
    gemm_dot<Dot>(g, prepare_rows<Dot>(g, scratch, ctx), tiles, ctx, epilogue);
  } else {
    using Dot = DotWidened<V>;
    gemm_dot<Dot>(g, prepare_rows<Dot>(g, scratch, ctx), tiles, ctx, epilogue);
  }
}

}  // namespace swiftkv::cpu::simd
