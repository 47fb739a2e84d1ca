// Queries of a layer that owns no cache: projection, bias, norm (where the model has one), rotation.
#include "backends/cpu/avx512/gemm.h"
#include "backends/cpu/avx512/heads.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/avx512/rms_norm.h"

namespace swiftkv::cpu::avx512 {
namespace {

GemmPlan plan(const QRopeParams& p, int threads) {
  return plan_gemm(p.w.dtype, p.rows, p.w.n, p.w.k, p.head_dim, threads);
}

}  // namespace

size_t q_rope_scratch(const QRopeParams& p, int threads) {
  return p.rows == 0 ? 0 : gemm_scratch({p.a, p.w, p.fp8_activations}, plan(p, threads), threads);
}

Status q_rope(const QRopeParams& p, const Context& ctx) {
  if (p.rows == 0) return {};
  const int64_t hd = p.head_dim;
  gemm({p.a, p.w, p.fp8_activations}, plan(p, ctx.threads), ctx.scratch, ctx,
       [&](int64_t row, int64_t rows, int64_t column, int64_t columns, float* tile, int64_t stride) {
         for (int64_t r = row; r < row + rows; ++r, tile += stride) {
           const float* angles = p.rope + p.positions[r] * hd;
           if (p.bias != nullptr) add_bias(tile, p.bias + column, columns);
           for (int64_t c = 0; c < columns; c += hd) {
             if (p.q_norm != nullptr) norm_row(tile + c, p.q_norm, p.eps, hd, tile + c);
             rotate_head(tile + c, angles, hd);
           }
           store_activation(p.q, r * p.w.n + column, tile, columns);
         }
       });
  return {};
}

}  // namespace swiftkv::cpu::avx512
