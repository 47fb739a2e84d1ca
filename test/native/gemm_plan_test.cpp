// The plan of a matrix product: every output is in exactly one piece, heads stay whole, and no step needs more scratch
// than was measured at capacity.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "backends/cpu/avx512/gemm_plan.h"
#include "generators.h"

namespace swiftkv::test {
namespace {

using cpu::avx512::GemmPlan;
using cpu::avx512::plan_gemm;

const int kThreads[] = {1, 2, 7, 64};

TEST_CASE("gemm plan: pieces cover every row and tile once") {
  for (const ProductShape& s : kProductShapes)
    for (int64_t rows : {s.rows, s.rows + 191, s.rows + 5000})
      for (int threads : kThreads) {
        if (rows == 0) continue;
        const GemmPlan plan = plan_gemm(DType::bf16, rows, s.n, s.k, 1, threads);
        INFO("rows ", rows, " n ", s.n, " k ", s.k, " threads ", threads);
        CHECK(plan.row_begin(0) == 0);
        CHECK(plan.row_begin(plan.row_pieces) == rows);
        for (int64_t i = 0; i < plan.row_pieces; ++i) {
          const int64_t count = plan.row_begin(i + 1) - plan.row_begin(i);
          CHECK(count >= 1);
          CHECK(count * plan.tile_panels * kPanel * 4 <= plan.tile_bytes);
        }
        CHECK(plan.tiles * plan.tile_panels * kPanel >= s.n);
        CHECK((plan.tiles - 1) * plan.tile_panels * kPanel < s.n);
        CHECK(plan.column_pieces * plan.tiles_per_piece >= plan.tiles);
        CHECK((plan.column_pieces - 1) * plan.tiles_per_piece < plan.tiles);
      }
}

TEST_CASE("gemm plan: no head lies in two tiles, whatever its width") {
  for (int64_t hd = 2; hd <= 256; hd += 2)
    for (int64_t heads : {1, 2, 3, 12, 48}) {
      INFO("hd ", hd, " heads ", heads);
      const GemmPlan plan = plan_gemm(DType::bf16, 512, heads * hd, 100, hd, 2);
      const int64_t width = plan.tile_panels * kPanel;
      CHECK((width % hd == 0 || width >= heads * hd));
    }
}

TEST_CASE("gemm plan: fewer rows never need more scratch") {
  for (int64_t hd : {1, 8, 80, 94, 128, 250}) {
    int64_t before = 0;
    for (int64_t rows = 1; rows <= 1030; ++rows) {
      const GemmPlan plan = plan_gemm(DType::f32, rows, 24 * hd, 64, hd, 2);
      REQUIRE(plan.tile_bytes >= before);
      before = plan.tile_bytes;
      const int64_t six_rows = plan.tile_panels * kPanel * 4 * cpu::avx512::kRowTile;
      REQUIRE(plan.tile_bytes <= std::max(cpu::avx512::kTileBytes, six_rows));
    }
  }
}

TEST_CASE("gemm plan: quantized weights count their own bytes, and blocks of widened codes grow with the rows only") {
  CHECK(cpu::avx512::gemm_panel_bytes(DType::bf16, 33) == 17 * 256);
  CHECK(cpu::avx512::gemm_panel_bytes(DType::fp8_e4m3, 33) == 17 * 128);
  CHECK(cpu::avx512::gemm_panel_bytes(DType::int8, 33) == 9 * 256);
  CHECK(cpu::avx512::gemm_panel_bytes(DType::int4, 33) == 2 * 1152);
  for (DType dtype : {DType::fp8_e4m3, DType::int8, DType::int4}) {
    size_t before = 0;
    for (int64_t rows = 1; rows <= 1030; ++rows) {
      const GemmPlan plan = plan_gemm(dtype, rows, 24 * 64, 640, 64, 2);
      REQUIRE(cpu::avx512::plan_scratch(plan, 2) >= before);
      before = cpu::avx512::plan_scratch(plan, 2);
      // Where strips share a block, it has room for all steps of a pass and the one that an odd k leaves over.
      const bool shared = dtype == DType::fp8_e4m3 && rows > cpu::avx512::kRowTile;
      REQUIRE(plan.block_bytes == (shared ? (plan.step_block + 1) * cpu::avx512::kStepBytes : 0));
    }
    CHECK(plan_gemm(dtype, 1, 128256, 2048, 1, 2).pieces() >= 16);
    CHECK(plan_gemm(dtype, 1, 256, 128, 1, 2).pieces() == 1);
  }
}

TEST_CASE("gemm plan: large products leave every thread several pieces, small ones are not torn apart") {
  for (int threads : kThreads) {
    CHECK(plan_gemm(DType::bf16, 1, 128256, 2048, 1, threads).pieces() >= 8 * threads);
    CHECK(plan_gemm(DType::bf16, 512, 16384, 2048, 1, threads).pieces() >= 8 * threads);
    CHECK(plan_gemm(DType::bf16, 1, 256, 128, 1, threads).pieces() == 1);
  }
}

TEST_CASE("gemm plan describes itself") {
  char text[200];
  describe(plan_gemm(DType::bf16, 512, 3072, 2048, 1, 2), text, sizeof text);
  CHECK(std::string(text) ==
        "512 rows in 3, 48 tiles of 1 panels, 1 a piece, 144 pieces, 1024 steps a pass, tile 49152 B");
}

}  // namespace
}  // namespace swiftkv::test
