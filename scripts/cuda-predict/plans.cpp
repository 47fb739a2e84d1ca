// Answers, for scripts/cuda-predict.mjs, what the launchers of the cuda backend would choose. A question a line on the
// standard input, a line of JSON each on the standard output:
//   linear ROWS OUTPUTS SMS
//   heads ROWS HEADS HEAD_DIM SMS
//   decode SEQUENCES HEADS KV_HEADS HEAD_DIM CACHE(bf16|fp8_e4m3) TOKENS SMS
//   prefill ROWS HEADS KV_HEADS HEAD_DIM CACHE
#include <iostream>
#include <sstream>
#include <string>

#include "backends/cuda/attention_plan.h"
#include "backends/cuda/gemm_plan.h"

using namespace swiftkv;
using namespace swiftkv::cuda;

namespace {

const char* name_of(GemmTile tile) {
  static const char* const names[] = {"large",       "middle", "narrow",     "small", "heads_middle",
                                      "heads_small", "wide",   "wide_small", "plain"};
  return names[static_cast<int>(tile)];
}

DeviceLimits limits_of(int32_t multiprocessors) {
  return {80, multiprocessors, 163 * 1024, 164 * 1024};
}

void answer(const GemmPlan& plan) {
  const TileShape shape = tile_shape(plan.tile);
  std::cout << "{\"tile\": \"" << name_of(plan.tile) << "\", \"rows\": " << shape.rows
            << ", \"columns\": " << plan.columns_used << ", \"blocks\": " << plan.blocks()
            << ", \"rowTiles\": " << plan.row_tiles
            << ", \"inFlight\": " << (shape.stages - 1) * shape.k * (shape.rows + shape.columns) * 2 << "}\n";
}

void answer(const AttentionProblem& p, const DecodePlan& plan) {
  std::cout << "{\"blocks\": " << plan.tiles * plan.split_blocks << ", \"splits\": " << plan.max_splits
            << ", \"apart\": " << (plan.splits_apart ? "true" : "false")
            << ", \"inFlight\": " << plan.slots * attention_stage_bytes(p.cache, p.head_dim) << "}\n";
}

AttentionProblem problem(int64_t rows, int32_t sequences, int32_t heads, int32_t kv_heads, int32_t head_dim,
                         const std::string& cache, int32_t tokens) {
  return {rows,     sequences, (tokens + kBlockTokens - 1) / kBlockTokens,      heads,
          kv_heads, head_dim,  cache == "bf16" ? DType::bf16 : DType::fp8_e4m3, DType::f32};
}

}  // namespace

int main() {
  std::string line, what, cache;
  while (std::getline(std::cin, line)) {
    std::istringstream in(line);
    int64_t rows = 0, outputs = 0;
    int32_t heads = 0, kv_heads = 0, head_dim = 0, multiprocessors = 0, tokens = 0;
    in >> what >> rows;
    if (what == "linear") {
      in >> outputs >> multiprocessors;
      answer(plan_linear(rows, outputs, limits_of(multiprocessors)));
    } else if (what == "heads") {
      in >> heads >> head_dim >> multiprocessors;
      answer(plan_heads(rows, heads, head_dim, limits_of(multiprocessors)));
    } else if (what == "decode") {
      in >> heads >> kv_heads >> head_dim >> cache >> tokens >> multiprocessors;
      const auto p = problem(rows, static_cast<int32_t>(rows), heads, kv_heads, head_dim, cache, tokens);
      answer(p, decode_plan(p, limits_of(multiprocessors)));
    } else if (what == "prefill") {
      in >> heads >> kv_heads >> head_dim >> cache;
      const auto p = problem(rows, 1, heads, kv_heads, head_dim, cache, 1);
      std::cout << "{\"blocks\": " << prefill_plan(p).blocks
                << ", \"inFlight\": " << 2 * attention_stage_bytes(p.cache, p.head_dim) << "}\n";
    } else {
      std::cerr << "no such question: " << line << "\n";
      return 1;
    }
  }
}
