// Prints, for scripts/cuda-report.mjs, what launchers decide and no compiler's output shows: the names of tiles, and
// the dynamic shared memory of kernels, from the plans themselves. A line: kind, name or its start, value.
#include <cstdio>

#include "backends/cuda/attention_plan.h"
#include "backends/cuda/gemm_plan.h"

using namespace swiftkv;
using namespace swiftkv::cuda;

namespace {

void attention(DType cache, const char* type, int head_dim, DType q, int parts) {
  const AttentionProblem p{1, 1, 1, 1, 1, head_dim, cache, q};
  const DeviceLimits limits{80, 108, 163 << 10, 164 << 10};
  std::printf("shared\tattention_decode_kernel<%s, %d, %d>\t%d\n", type, head_dim, parts,
              decode_plan(p, limits).shared_bytes);
  std::printf("shared\tattention_prefill_kernel<%s, %d, %d>\t%d\n", type, head_dim, parts,
              prefill_plan(p).shared_bytes);
}

}  // namespace

int main() {
  for (const int head_dim : {32, 64, 96, 128, 256}) {
    attention(DType::bf16, "bf16", head_dim, DType::bf16, 1);
    attention(DType::bf16, "bf16", head_dim, DType::f32, 2);
    attention(DType::fp8_e4m3, "fp8_e4m3", head_dim, DType::bf16, 1);
    attention(DType::fp8_e4m3, "fp8_e4m3", head_dim, DType::f32, 2);
  }
  for (const char* type : {"float", "bf16", "fp8_e4m3"})
    for (const int head_dim : {64, 128, 512})  // the widest heads of each kernel
      std::printf("shared\tattention_general_kernel<%s, %d>\t%d\n", type, general_pairs(head_dim),
                  general_shared_bytes(head_dim));
  const char* const tiles[] = {"large",        "middle",      "narrow", "small",
                               "heads_middle", "heads_small", "wide",   "wide_small"};
  for (int i = 0; i < 8; ++i) {
    const auto tile = static_cast<GemmTile>(i);
    std::printf("tile\t%d\t%s\n", i, tiles[i]);
    std::printf("shared\tgemm<MmaProduct<%s, bf16>,\t%d\n", tiles[i], mma_shared_bytes(tile, 2));
    std::printf("shared\tgemm<MmaProduct<%s, fp8_e4m3>,\t%d\n", tiles[i], mma_shared_bytes(tile, 1));
  }
  // FmaProduct's and IntegerProduct's kSharedBytes, which no plan has: two buffers of rows with four floats of padding,
  // and the finished tile.
  constexpr TileShape plain = tile_shape(GemmTile::plain);
  std::printf("shared\tgemm<FmaProduct\t%d\n", plain.stages * (plain.rows + plain.columns) * (plain.k + 4) * 4);
  std::printf("shared\tgemm<IntegerProduct\t%d\n", plain.tile_bytes());
}
