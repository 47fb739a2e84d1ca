// q, k and v of a layer in one product: bias, norms (where the model has them) and rotation, then q to its tensor, k
// and v straight to their pages.
#pragma once

#include "backends/cpu/simd/gemm.h"
#include "backends/cpu/simd/heads.h"
#include "backends/cpu/simd/kv_store.h"
#include "backends/cpu/simd/rms_norm.h"

namespace swiftkv::cpu::simd {

static inline Gemm gemm_of(const QkvRopeCacheParams& p, int threads) {
  return {p.a, p.w, p.fp8_activations, plan_gemm(p.w.dtype, p.rows, p.w.n, p.w.k, p.head_dim, threads)};
}

// x: the finished sums of head `head`, counted over q, k and v.
template <class V>
static void store_head(const QkvRopeCacheParams& p, int64_t row, int64_t head, float* x) {
  const int64_t hd = p.head_dim;
  const int64_t kv_head = head - p.num_heads;
  if (kv_head >= p.num_kv_heads) return store_kv<V>(p.cache, p.slots[row], kv_head - p.num_kv_heads, KvHalf::v, x);
  const float* norm = kv_head >= 0 ? p.k_norm : p.q_norm;
  if (norm != nullptr) norm_row<V>(x, norm, p.eps, hd, x);
  rotate_head<V>(x, p.rope + p.positions[row] * hd, hd);
  if (kv_head >= 0)
    store_kv<V>(p.cache, p.slots[row], kv_head, KvHalf::k, x);
  else
    store_activation<V>(p.q, (row * p.num_heads + head) * hd, x, hd);
}

template <class V>
static size_t qkv_rope_cache_scratch(const QkvRopeCacheParams& p, int threads) {
  return p.rows == 0 ? 0 : gemm_scratch<V>(gemm_of(p, threads), threads);
}

template <class V>
static Status qkv_rope_cache(const QkvRopeCacheParams& p, const Context& ctx) {
  if (p.rows == 0) return {};
  const int64_t hd = p.head_dim;
  gemm<V>(gemm_of(p, ctx.threads), ctx.scratch, ctx,
          [&](int64_t row, int64_t rows, int64_t column, int64_t columns, float* tile, int64_t stride) {
            for (int64_t r = row; r < row + rows; ++r, tile += stride) {
              if (p.bias != nullptr) add_bias<V>(tile, p.bias + column, columns);
              for (int64_t c = 0; c < columns; c += hd) store_head<V>(p, r, (column + c) / hd, tile + c);
            }
          });
  return {};
}

}  // namespace swiftkv::cpu::simd
