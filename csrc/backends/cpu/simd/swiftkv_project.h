// SingleInputKV: one norm, then K and V of every later cache in one product over all groups.
#pragma once

#include "backends/cpu/simd/gemm.h"
#include "backends/cpu/simd/heads.h"
#include "backends/cpu/simd/kv_store.h"
#include "backends/cpu/simd/rms_norm.h"

namespace swiftkv::cpu::simd {

// Rows normed by one claim: 8 rows of 2048 are 64 KiB, a few microseconds.
inline constexpr int64_t kNormRows = 8;

static inline Gemm gemm_of(const SwiftkvProjectParams& p, void* z, int threads) {
  return {{z, z_dtype(p)}, p.w, p.fp8_activations, plan_gemm(p.w.dtype, p.rows, p.w.n, p.w.k, p.head_dim, threads)};
}

// z [rows, d] in z_dtype, rounded up so that what lies behind it stays aligned.
static inline size_t z_bytes(const SwiftkvProjectParams& p) {
  return static_cast<size_t>(div_up(p.rows * p.dim * dtype_bytes(z_dtype(p)), 64) * 64);
}

template <class V, class Z>
static void norm_rows(const SwiftkvProjectParams& p, Z* z, const Context& ctx) {
  ctx.parallel_for(div_up(p.rows, kNormRows), [&](int64_t piece, int) {
    for (int64_t r = piece * kNormRows; r < smaller((piece + 1) * kNormRows, p.rows); ++r)
      norm_row<V>(p.x + r * p.dim, p.norm, p.eps, p.dim, z + r * p.dim);
  });
}

// x: the finished sums of head `head`, counted over the groups' k and v.
template <class V>
static void store_head(const SwiftkvProjectParams& p, int64_t row, int64_t head, float* x) {
  const int64_t group = head / (2 * p.num_kv_heads);
  const KvCache& cache = p.caches[group];
  const int64_t in_group = head % (2 * p.num_kv_heads);
  if (in_group < p.num_kv_heads) {
    if (p.k_norm != nullptr) norm_row<V>(x, p.k_norm + group * p.head_dim, p.eps, p.head_dim, x);
    rotate_head<V>(x, p.rope + p.positions[row] * int64_t{p.head_dim}, p.head_dim);
    store_kv<V>(cache, p.slots[row], in_group, KvHalf::k, x);
  } else {
    store_kv<V>(cache, p.slots[row], in_group - p.num_kv_heads, KvHalf::v, x);
  }
}

template <class V>
static size_t swiftkv_project_scratch(const SwiftkvProjectParams& p, int threads) {
  return p.rows == 0 ? 0 : z_bytes(p) + gemm_scratch<V>(gemm_of(p, nullptr, threads), threads);
}

template <class V>
static Status swiftkv_project(const SwiftkvProjectParams& p, const Context& ctx) {
  if (p.rows == 0) return {};
  std::byte* z = ctx.scratch;
  visit_float(z_dtype(p), [&]<class Z>(Z) { norm_rows<V>(p, reinterpret_cast<Z*>(z), ctx); });
  const int64_t hd = p.head_dim;
  gemm<V>(gemm_of(p, z, ctx.threads), z + z_bytes(p), ctx,
          [&](int64_t row, int64_t rows, int64_t column, int64_t columns, float* tile, int64_t stride) {
            for (int64_t r = row; r < row + rows; ++r, tile += stride) {
              if (p.slots[r] < 0) continue;
              if (p.bias != nullptr) add_bias<V>(tile, p.bias + column, columns);
              for (int64_t c = 0; c < columns; c += hd) store_head<V>(p, r, (column + c) / hd, tile + c);
            }
          });
  return {};
}

}  // namespace swiftkv::cpu::simd
