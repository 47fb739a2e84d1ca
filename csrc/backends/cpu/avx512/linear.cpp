// y = a W^T + bias, or y += a W^T + bias.
#include "backends/cpu/avx512/gemm.h"
#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/ops.h"

namespace swiftkv::cpu::avx512 {
namespace {

GemmPlan plan(const LinearParams& p, int threads) {
  return plan_gemm(p.w.dtype, p.rows, p.w.n, p.w.k, 1, threads);
}

// For every row count: the bias is added to the finished sum, and that to the old y.
template <class Out>
void store_rows(const LinearParams& p, int64_t row, int64_t rows, int64_t column, int64_t columns, const float* tile,
                int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    Out* y = static_cast<Out*>(p.y.data) + (row + r) * p.w.n + column;
    for (int64_t c = 0; c < columns; c += 16) {
      const __mmask16 m = first_lanes(columns - c);
      __m512 sum = _mm512_loadu_ps(tile + r * stride + c);
      if (p.bias != nullptr) sum = _mm512_add_ps(sum, load_lanes(p.bias + column + c, m));
      if constexpr (sizeof(Out) == sizeof(float)) {
        if (p.accumulate) sum = _mm512_add_ps(load_lanes(y + c, m), sum);
      }
      store_lanes(y + c, m, sum);
    }
  }
}

}  // namespace

size_t linear_scratch(const LinearParams& p, int threads) {
  return p.rows == 0 ? 0 : gemm_scratch({p.a, p.w, p.fp8_activations}, plan(p, threads), threads);
}

Status linear(const LinearParams& p, const Context& ctx) {
  if (p.rows == 0) return {};
  gemm({p.a, p.w, p.fp8_activations}, plan(p, ctx.threads), ctx.scratch, ctx,
       [&](int64_t row, int64_t rows, int64_t column, int64_t columns, float* tile, int64_t stride) {
         if (p.y.dtype == DType::bf16)
           store_rows<bf16>(p, row, rows, column, columns, tile, stride);
         else
           store_rows<float>(p, row, rows, column, columns, tile, stride);
       });
  return {};
}

}  // namespace swiftkv::cpu::avx512
