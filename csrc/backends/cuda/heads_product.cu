// A product and the finish of its heads, in one kernel where a head fits a tile; otherwise the sums of a few rows at a
// time go through scratch.
#include "backends/cuda/heads_product.h"

#include <algorithm>

#include "backends/cuda/finish_heads.cuh"
#include "backends/cuda/gemm_launch.h"
#include "backends/cuda/linear.h"

namespace swiftkv::cuda {

// Rows whose sums are in memory together where heads are too wide for a tile.
constexpr int64_t kStagedRows = 256;
constexpr int kStagedThreads = 128;

// Finishes heads whose sums are x [rows, heads * hd]. A warp takes four rows of a head, as in a tile.
__global__ void __launch_bounds__(kStagedThreads) finish_heads(HeadsFinish finish, float* x, int64_t rows, int heads) {
  constexpr int kRowsOfWarp = kWarp / kHeadLanes;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t item = int64_t{blockIdx.x} * (kStagedThreads / kWarp) + static_cast<int>(threadIdx.x) / kWarp;
  const int head = static_cast<int>(item % heads);
  const int64_t row = item / heads * kRowsOfWarp + lane / kHeadLanes;
  const bool valid = row < rows;
  float* sums = x + ((valid ? row : 0) * heads + head) * finish.head_dim;
  finish.finish(sums, row, head, lane % kHeadLanes, valid);
}

namespace {

int64_t heads_of(const HeadsParams& p) {
  return p.num_heads + int64_t{p.num_groups} * 2 * p.num_kv_heads;
}

bool fits_tile(const HeadsParams& p) {
  const bool tensor = product_kind(p.product) == ProductKind::tensor;
  return p.head_dim <= (tensor ? kWidestMmaHead : kWidestPlainHead);
}

// For groups [first, first + count); heads of q go with the first.
HeadsFinish finish_of(const HeadsParams& p, const Product& product, int first, int count) {
  HeadsFinish f = {};
  f.num_heads = first == 0 ? p.num_heads : 0;
  f.num_kv_heads = count == 0 ? 0 : p.num_kv_heads;
  f.head_dim = p.head_dim;
  f.q_dtype = p.q.dtype;
  f.q = p.q.data;
  const int64_t skipped = first == 0 ? 0 : p.num_heads + int64_t{first} * 2 * p.num_kv_heads;
  f.bias = p.bias == nullptr ? nullptr : p.bias + skipped * p.head_dim;
  f.w_scales = product.output_scales();
  f.row_scales = product.row_scales();
  f.rope = p.rope;
  f.positions = p.positions;
  f.slots = p.slots;
  f.q_norm = first == 0 ? p.q_norm : nullptr;
  f.k_norm = p.k_norm == nullptr ? nullptr : p.k_norm + int64_t{first} * p.head_dim;
  f.eps = p.eps;
  if (count > 0) f.cache = p.caches[first];
  for (int g = 0; g < count; ++g) {
    const KvCache& cache = p.caches[first + g];
    f.groups[g] = {cache.data, cache.k_scale, cache.v_scale};
  }
  return f;
}

Status fused(const char* name, const Product& p, const HeadsFinish& f, int64_t heads, const Context& c) {
  if (p.kind != ProductKind::tensor) return launch_plain(name, p, f, plan_plain_heads(p.rows, heads, f.head_dim), c);
  const GemmPlan plan = plan_heads(p.rows, heads, f.head_dim, c.limits);
  switch (plan.tile) {
    case GemmTile::large: return launch_mma<GemmTile::large>(name, p, f, plan, c);
    case GemmTile::heads_middle: return launch_mma<GemmTile::heads_middle>(name, p, f, plan, c);
    case GemmTile::heads_small: return launch_mma<GemmTile::heads_small>(name, p, f, plan, c);
    case GemmTile::wide: return launch_mma<GemmTile::wide>(name, p, f, plan, c);
    default: return launch_mma<GemmTile::wide_small>(name, p, f, plan, c);
  }
}

Status staged(const char* name, const Product& p, const HeadsFinish& f, int64_t heads, float* sums, const Context& c) {
  for (int64_t first = 0; first < p.rows; first += kStagedRows) {
    const Product part = rows_of(p, first, std::min(kStagedRows, p.rows - first));
    const Status product = linear_product(name, part, {{sums, DType::f32}, false, nullptr, false}, c);
    if (!product.ok()) return product;
    HeadsFinish finish = f;
    if (f.row_scales != nullptr) finish.row_scales = f.row_scales + first;
    finish.positions = f.positions + first;
    if (f.slots != nullptr) finish.slots = f.slots + first;
    if (f.q != nullptr)
      finish.q = static_cast<std::byte*>(f.q) + first * f.num_heads * f.head_dim * dtype_bytes(f.q_dtype);
    const int64_t warps = ceil_div(part.rows, kWarp / kHeadLanes) * heads;
    const Status finished = launch("finish_heads", &finish_heads, grid_of(ceil_div(warps, kStagedThreads / kWarp)),
                                   dim3(kStagedThreads), 0, c.stream, finish, sums, part.rows, static_cast<int>(heads));
    if (!finished.ok()) return finished;
  }
  return {};
}

}  // namespace

size_t heads_product_scratch(const HeadsParams& p) {
  const int64_t sums = fits_tile(p) ? 0 : std::min(kStagedRows, p.product.rows) * p.product.w.n * 4;
  return prepared_bytes(p.product) + aligned_bytes(sums);
}

Status heads_product(const char* name, const HeadsParams& p, const Context& c, std::byte* scratch) {
  if (p.product.rows == 0 || heads_of(p) == 0) return {};
  Product product;
  const Status prepared = prepare_product(p.product, c, scratch, product);
  if (!prepared.ok()) return prepared;
  auto* sums = reinterpret_cast<float*>(scratch + prepared_bytes(p.product));
  for (int first = 0; first == 0 || first < p.num_groups; first += kMaxGroups) {
    const int count = std::min(kMaxGroups, p.num_groups - first);
    const int64_t skipped = first == 0 ? 0 : p.num_heads + int64_t{first} * 2 * p.num_kv_heads;
    const int64_t heads = (first == 0 ? p.num_heads : 0) + int64_t{count} * 2 * p.num_kv_heads;
    const Product part = outputs_of(product, skipped * p.head_dim, heads * p.head_dim);
    const HeadsFinish finish = finish_of(p, part, first, count);
    const Status done = fits_tile(p) ? fused(name, part, finish, heads, c) : staged(name, part, finish, heads, sums, c);
    if (!done.ok()) return done;
  }
  return {};
}

}  // namespace swiftkv::cuda
