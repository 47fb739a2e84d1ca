// Tiles of matrix products: whole problems are covered, heads are not split, and blocks fit their chips.
#include <doctest/doctest.h>

#include "backends/cuda/gemm_plan.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

using cuda::GemmPlan, cuda::GemmTile, cuda::TileShape, cuda::tile_shape;

const int kArchs[] = {80, 89, 90};

void check_covers(const GemmPlan& plan, int64_t rows, int64_t n) {
  const TileShape s = tile_shape(plan.tile);
  CHECK(plan.columns_used >= 1);
  CHECK(plan.columns_used <= s.columns);
  CHECK(plan.row_tiles * s.rows >= rows);
  CHECK((plan.row_tiles - 1) * s.rows < rows);
  CHECK(plan.column_tiles * plan.columns_used >= n);
  CHECK((plan.column_tiles - 1) * plan.columns_used < n);
}

TEST_CASE("tiles of products cover every problem, and heads are whole") {
  for (const int arch : kArchs)
    for (const int64_t rows : {1, 15, 16, 17, 64, 65, 128, 129, 2048, 100000}) {
      const cuda::DeviceLimits limits = limits_of(arch);
      for (const int64_t n : {1, 31, 33, 127, 129, 4096, 28672, 128256}) {
        check_covers(cuda::plan_linear(rows, n, limits), rows, n);
        check_covers(cuda::plan_plain(rows, n), rows, n);
      }
      for (const int32_t head_dim : {2, 6, 8, 64, 80, 96, 112, 128, 130, 192, 256})
        for (const int64_t heads : {1, 3, 48, 640}) {
          INFO("rows ", rows, " heads ", heads, " of ", head_dim);
          const GemmPlan plan = cuda::plan_heads(rows, heads, head_dim, limits);
          check_covers(plan, rows, heads * head_dim);
          CHECK(plan.columns_used % head_dim == 0);
          if (head_dim > cuda::kWidestPlainHead) continue;
          const GemmPlan plain = cuda::plan_plain_heads(rows, heads, head_dim);
          check_covers(plain, rows, heads * head_dim);
          CHECK(plain.columns_used % head_dim == 0);
        }
    }
}

TEST_CASE("tiles of tensor-core products fit a block of every chip, and their ring shares out among the threads") {
  for (int i = 0; i < static_cast<int>(GemmTile::plain); ++i) {
    const auto tile = static_cast<GemmTile>(i);
    const TileShape s = tile_shape(tile);
    INFO("tile ", i);
    for (const int arch : kArchs) CHECK(cuda::mma_shared_bytes(tile, 2) <= limits_of(arch).shared_bytes_block);
    // A block also costs 1 KiB of the system's.
    CHECK(s.blocks * (cuda::mma_shared_bytes(tile, 2) + 1024) <= limits_of(80).shared_bytes_sm);
    CHECK(s.threads() % 32 == 0);
    CHECK(s.stages >= 2);
    CHECK(cuda::kPadK % s.k == 0);
    CHECK(s.stride() % 32 == 8);
  }
}

TEST_CASE("few rows take narrow tiles, many rows large ones where they fill the chip") {
  const cuda::DeviceLimits a100 = limits_of(80);
  CHECK(cuda::plan_linear(1, 4096, a100).tile == GemmTile::small);
  CHECK(cuda::plan_linear(1, 4096, a100).blocks() == 128);
  CHECK(cuda::plan_linear(16, 4096, a100).tile == GemmTile::small);
  CHECK(cuda::plan_linear(17, 128256, a100).tile == GemmTile::middle);
  CHECK(cuda::plan_linear(32, 4096, a100).tile == GemmTile::narrow);
  CHECK(cuda::plan_linear(256, 4096, a100).tile == GemmTile::middle);
  CHECK(cuda::plan_linear(2048, 4096, a100).tile == GemmTile::large);
  CHECK(cuda::plan_heads(1, 48, 128, a100).tile == GemmTile::heads_small);
  CHECK(cuda::plan_heads(64, 640, 128, a100).tile == GemmTile::heads_middle);
  CHECK(cuda::plan_heads(2048, 48, 128, a100).tile == GemmTile::large);
  CHECK(cuda::plan_heads(1, 48, 256, a100).tile == GemmTile::wide_small);
  CHECK(cuda::plan_heads(2048, 48, 256, a100).tile == GemmTile::wide);
}

}  // namespace
}  // namespace swiftkv::test
