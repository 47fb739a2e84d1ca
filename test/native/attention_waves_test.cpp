// attention_decode keeps the partial results of a bounded number of splits and goes on in waves: rows that reach over
// the end of a wave, at any KV head, must not notice. Groups are wide here, so that few splits fill a wave.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "compare.h"
#include "fixtures.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

struct LongDecode {
  LongDecode(const HeadShape& h, const CacheKind& kind, DType type, const std::vector<Sequence>& sequences)
      : rng(11),
        heads(h),
        half(sequences, blocks_needed(sequences), rng),
        cache({kind.dtype, kind.scales, h.num_kv_heads, h.head_dim}, blocks_needed(sequences)),
        q(type, random_values(rng, half.view().rows * h.num_heads * h.head_dim)) {
    for (size_t b = 0; b < sequences.size(); ++b) {
      const int64_t context = sequences[b].context_len, count = context * h.num_kv_heads * h.head_dim;
      const std::vector<float> k = random_values(rng, count), v = random_values(rng, count);
      std::vector<int32_t> slots;
      for (int64_t p = 0; p < context; ++p) slots.push_back(half.slot(static_cast<int64_t>(b), p));
      const KvQuantizeParams p{context, k.data(), v.data(), slots.data(), cache.view()};
      check(LevelDevice(cpu::CpuLevel::scalar).run(OpKind::kv_quantize, &p));
    }
  }

  std::vector<float> run(const LevelDevice& device, OpKind kind, QuerySelect select) const {
    const Tensor o(DType::f32, q.count);
    const AttentionParams p{half.view(),    select,       heads.num_heads,
                            q.activation(), cache.view(), 1.0f / std::sqrt(static_cast<float>(heads.head_dim)),
                            o.activation()};
    CHECK(device.run(kind, &p).ok());
    return o.floats();
  }

  Rng rng;
  HeadShape heads;
  Half half;
  Cache cache;
  Tensor q;
};

TEST_CASE("attention_decode: rows over the end of a wave have the bits of a walk without waves") {
  // A wave holds 31 pieces (a split of one KV head) with groups of 64 heads of 256, and 63 with groups of 32.
  const std::vector<std::pair<HeadShape, std::vector<Sequence>>> problems{
      // One row in two waves.
      {{64, 1, 256}, {{10000, 1}}},
      // The wave ends between the heads of a split.
      {{128, 4, 256}, {{2000, 1}, {1, 1}, {1900, 1}, {256, 1}}},
      // The second wave finishes one row and leaves another.
      {{64, 2, 256}, {{200, 1}, {4000, 1}, {257, 1}, {4100, 1}, {8000, 1}, {15, 1}}},
  };
  for_each_level([&](cpu::CpuLevel level) {
    if (level == cpu::CpuLevel::scalar) return;  // has no waves, and would take long
    for (const auto& [heads, sequences] : problems)
      for (DType type : {DType::bf16, DType::f32}) {
        INFO("Hq ", heads.num_heads, " Hk ", heads.num_kv_heads, " q ", text(dtype_name(type)));
        const LongDecode problem(heads, kCacheKinds[1], type, sequences);
        const std::vector<float> walk = problem.run(LevelDevice(level, 2), OpKind::attention_prefill, QuerySelect::all);
        for (int threads : {1, 2, 3}) {
          const LevelDevice device(level, threads);
          CHECK(bit_difference(problem.run(device, OpKind::attention_decode, QuerySelect::one_row), walk) == "");
          CHECK(bit_difference(problem.run(device, OpKind::attention_decode, QuerySelect::all), walk) == "");
        }
      }
  });
}

}  // namespace
}  // namespace swiftkv::test
