// q, k and v of a layer in one product: bias, norms (where the model has them) and rotation, then q to its tensor, k
// and v straight to their pages.
#include "backends/cpu/avx512/gemm.h"
#include "backends/cpu/avx512/heads.h"
#include "backends/cpu/avx512/kv_store.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/avx512/rms_norm.h"

namespace swiftkv::cpu::avx512 {
namespace {

GemmPlan plan(const QkvRopeCacheParams& p, int threads) {
  return plan_gemm(p.w.dtype, p.rows, p.w.n, p.w.k, p.head_dim, threads);
}

// x: the finished sums of head `head`, counted over q, k and v.
void store_head(const QkvRopeCacheParams& p, int64_t row, int64_t head, float* x) {
  const int64_t hd = p.head_dim;
  const int64_t kv_head = head - p.num_heads;
  if (kv_head >= p.num_kv_heads) {
    store_kv(p.cache, p.slots[row], kv_head - p.num_kv_heads, KvHalf::v, x);
    return;
  }
  const float* norm = kv_head >= 0 ? p.k_norm : p.q_norm;
  if (norm != nullptr) norm_row(x, norm, p.eps, hd, x);
  rotate_head(x, p.rope + p.positions[row] * hd, hd);
  if (kv_head >= 0)
    store_kv(p.cache, p.slots[row], kv_head, KvHalf::k, x);
  else
    store_activation(p.q, (row * p.num_heads + head) * hd, x, hd);
}

}  // namespace

size_t qkv_rope_cache_scratch(const QkvRopeCacheParams& p, int threads) {
  return p.rows == 0 ? 0 : gemm_scratch({p.a, p.w, p.fp8_activations}, plan(p, threads), threads);
}

Status qkv_rope_cache(const QkvRopeCacheParams& p, const Context& ctx) {
  if (p.rows == 0) return {};
  const int64_t hd = p.head_dim;
  gemm({p.a, p.w, p.fp8_activations}, plan(p, ctx.threads), ctx.scratch, ctx,
       [&](int64_t row, int64_t rows, int64_t column, int64_t columns, float* tile, int64_t stride) {
         for (int64_t r = row; r < row + rows; ++r, tile += stride) {
           if (p.bias != nullptr) add_bias(tile, p.bias + column, columns);
           for (int64_t c = 0; c < columns; c += hd) store_head(p, r, (column + c) / hd, tile + c);
         }
       });
  return {};
}

}  // namespace swiftkv::cpu::avx512
