// SingleInputKV: one norm, then K and V of every later cache in one product over all groups.
#include "backends/cpu/avx512/gemm.h"
#include "backends/cpu/avx512/heads.h"
#include "backends/cpu/avx512/kv_store.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/avx512/rms_norm.h"

namespace swiftkv::cpu::avx512 {
namespace {

// Rows normed by one claim: 8 rows of 2048 are 64 KiB, a few microseconds.
constexpr int64_t kNormRows = 8;

GemmPlan plan(const SwiftkvProjectParams& p, int threads) {
  return plan_gemm(p.w.dtype, p.rows, p.w.n, p.w.k, p.head_dim, threads);
}

// z [rows, d] in z_dtype, rounded up so that the tiles behind it stay aligned.
size_t z_bytes(const SwiftkvProjectParams& p) {
  const int64_t bytes = p.rows * p.dim * dtype_bytes(z_dtype(p));
  return static_cast<size_t>((bytes + 63) / 64 * 64);
}

Gemm product(const SwiftkvProjectParams& p, void* z) {
  return {{z, z_dtype(p)}, p.w, p.fp8_activations};
}

template <class Z>
void norm_rows(const SwiftkvProjectParams& p, Z* z, const Context& ctx) {
  ctx.parallel_for((p.rows + kNormRows - 1) / kNormRows, [&](int64_t piece, int) {
    const int64_t begin = piece * kNormRows;
    const int64_t end = begin + kNormRows < p.rows ? begin + kNormRows : p.rows;
    for (int64_t r = begin; r < end; ++r) norm_row(p.x + r * p.dim, p.norm, p.eps, p.dim, z + r * p.dim);
  });
}

// x: the finished sums of head `head`, counted over the groups' k and v.
void store_head(const SwiftkvProjectParams& p, int64_t row, int64_t head, float* x) {
  const int64_t group = head / (2 * p.num_kv_heads);
  const KvCache& cache = p.caches[group];
  const int64_t in_group = head % (2 * p.num_kv_heads);
  if (in_group < p.num_kv_heads) {
    if (p.k_norm != nullptr) norm_row(x, p.k_norm + group * p.head_dim, p.eps, p.head_dim, x);
    rotate_head(x, p.rope + p.positions[row] * int64_t{p.head_dim}, p.head_dim);
    store_kv(cache, p.slots[row], in_group, KvHalf::k, x);
  } else {
    store_kv(cache, p.slots[row], in_group - p.num_kv_heads, KvHalf::v, x);
  }
}

}  // namespace

size_t swiftkv_project_scratch(const SwiftkvProjectParams& p, int threads) {
  return p.rows == 0 ? 0 : z_bytes(p) + gemm_scratch(product(p, nullptr), plan(p, threads), threads);
}

Status swiftkv_project(const SwiftkvProjectParams& p, const Context& ctx) {
  if (p.rows == 0) return {};
  std::byte* z = ctx.scratch;
  if (z_dtype(p) == DType::bf16)
    norm_rows(p, reinterpret_cast<bf16*>(z), ctx);
  else
    norm_rows(p, reinterpret_cast<float*>(z), ctx);
  const int64_t hd = p.head_dim;
  gemm(product(p, z), plan(p, ctx.threads), ctx.scratch + z_bytes(p), ctx,
       [&](int64_t row, int64_t rows, int64_t column, int64_t columns, float* tile, int64_t stride) {
         for (int64_t r = row; r < row + rows; ++r, tile += stride) {
           if (p.slots[r] < 0) continue;
           if (p.bias != nullptr) add_bias(tile, p.bias + column, columns);
           for (int64_t c = 0; c < columns; c += hd) store_head(p, r, (column + c) / hd, tile + c);
         }
       });
  return {};
}

}  // namespace swiftkv::cpu::avx512
