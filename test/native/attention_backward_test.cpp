// attention_backward and rope_backward: every level against the scalar one, bit equality over threads. The scalar level
// is held against double precision and finite differences where TypeScript reaches it (test/kernels).
#include <doctest/doctest.h>

#include <cmath>

#include "compare.h"
#include "core/train_ops.h"
#include "fixtures.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

struct Heads {
  int32_t num_heads, num_kv_heads, head_dim;
};

// All keys of a sequence are rows of the call.
std::vector<Sequence> whole(const std::vector<int32_t>& lengths) {
  std::vector<Sequence> sequences;
  for (int32_t n : lengths) sequences.push_back({n, n});
  return sequences;
}

struct Gradients {
  std::vector<float> dq, dkv;
};

// The operands of one call, with o as attention of the scalar level writes it.
struct Problem {
  Problem(const Heads& shape, DType act, DType cache_dtype, const std::vector<int32_t>& lengths)
      : heads(shape),
        rng(7),
        half(whole(lengths), blocks_needed(whole(lengths)) + 1, rng),
        rows(static_cast<int64_t>(half.positions.size())),
        cache({cache_dtype, KvScales::none, heads.num_kv_heads, heads.head_dim}, blocks_needed(whole(lengths)) + 1),
        q(act, random_values(rng, rows * width(), 2.0f)),
        o(act, rows * width()),
        dout(DType::f32, random_values(rng, rows * width(), 1.0f)),
        before(random_values(rng, rows * dkv_width(), 1.0f)) {
    const LevelDevice scalar(cpu::CpuLevel::scalar);
    const std::vector<int32_t> slots = half.slots();
    const int64_t kv = rows * heads.num_kv_heads * heads.head_dim;
    const Tensor k(DType::f32, random_values(rng, kv, 2.0f)), v(DType::f32, random_values(rng, kv, 2.0f));
    const KvQuantizeParams write{rows, k.f32(), v.f32(), slots.data(), cache.view()};
    CHECK(scalar.run(OpKind::kv_quantize, &write).ok());
    const AttentionParams forward{half.view(),  QuerySelect::all, heads.num_heads, q.activation(),
                                  cache.view(), scale(),          o.activation()};
    CHECK(scalar.run(OpKind::attention, &forward).ok());
  }

  int64_t width() const { return int64_t{heads.num_heads} * heads.head_dim; }
  int64_t dkv_width() const { return int64_t{4} * heads.num_kv_heads * heads.head_dim; }  // two groups
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(heads.head_dim)); }

  Gradients run(const LevelDevice& device, bool accumulate) const {
    const Tensor dq(DType::f32, rows * width()), dkv(DType::f32, before);
    const AttentionBackwardParams p{half.view(), heads.num_heads, q.activation(), cache.view(), scale(), o.activation(),
                                    dout.f32(),  dq.f32(),        dkv.f32(),      dkv_width(),  1,       accumulate};
    CHECK(device.run(OpKind::attention_backward, &p).ok());
    return {dq.floats(), dkv.floats()};
  }

  Heads heads;
  Rng rng;
  Half half;
  int64_t rows;
  Cache cache;
  Tensor q, o, dout;
  std::vector<float> before;
};

TEST_CASE("attention_backward of every level agrees with the scalar one and does not depend on threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (const Heads& heads : {Heads{2, 1, 6}, Heads{4, 2, 32}, Heads{3, 3, 80}, Heads{4, 1, 128}})
      for (DType act : {DType::f32, DType::bf16})
        for (DType cache : {DType::f32, DType::bf16}) {
          INFO("hd ", heads.head_dim, " act ", text(dtype_name(act)), " cache ", text(dtype_name(cache)));
          const Problem p(heads, act, cache, {33, 0, 1, 64, 70});
          const bool accumulate = act == cache;
          const Gradients expected = p.run(LevelDevice(cpu::CpuLevel::scalar), accumulate);
          const Gradients got = p.run(LevelDevice(level), accumulate);
          // Two orders of the same sums: of up to 4 heads of 70 rows, of terms below 8 in which a score's error, some
          // units of hd products below 4 over sqrt(hd), counts as often as it is large.
          const double bound = 2.0 * kUnit * (280 + 4 * std::sqrt(heads.head_dim) * heads.head_dim) * 8.0;
          // Products of bf16 pairs round more; test/kernels bounds that element by element.
          if (level != cpu::CpuLevel::avx512 || act != DType::bf16 || cache != DType::bf16) {
            CHECK(difference(got.dq, expected.dq, bound, 0.0) == "");
            CHECK(difference(got.dkv, expected.dkv, bound, 0.0) == "");
          }
          const Gradients two = p.run(LevelDevice(level, 2), accumulate);
          CHECK(bit_difference(two.dq, got.dq) == "");
          CHECK(bit_difference(two.dkv, got.dkv) == "");
        }
  });
}

TEST_CASE("rope_backward of every level agrees with the scalar one and does not depend on threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (int32_t hd : {2, 6, 32, 80})
      for (DType result : {DType::f32, DType::bf16}) {
        INFO("hd ", hd, " out ", text(dtype_name(result)));
        const int64_t rows = 19, heads = 4, groups = 2, kv_heads = 2;
        Rng rng(3);
        const Tensor rope(DType::f32, random_values(rng, rows * hd, 1.0f));
        const Tensor dq(DType::f32, random_values(rng, rows * heads * hd, 1.0f));
        const Tensor dkv(DType::f32, random_values(rng, rows * groups * 2 * kv_heads * hd, 1.0f));
        std::vector<int32_t> positions;
        for (int32_t i = 0; i < rows; ++i) positions.push_back(static_cast<int32_t>(rows) - 1 - i);
        const auto run = [&](const LevelDevice& device) {
          const Tensor out(result, rows * (heads + groups * 2 * kv_heads) * hd);
          const RopeBackwardParams p{rows,     heads,     groups,          kv_heads, hd, rope.f32(), positions.data(),
                                     dq.f32(), dkv.f32(), out.activation()};
          CHECK(device.run(OpKind::rope_backward, &p).ok());
          return out.floats();
        };
        const std::vector<float> got = run(LevelDevice(level));
        // Two products below 1 and their sum; in bf16 they may round to neighbours.
        const double unit = result == DType::bf16 ? 2 * kUnitBf16 : 0.0;
        CHECK(difference(got, run(LevelDevice(cpu::CpuLevel::scalar)), 4.0 * kUnit, unit) == "");
        CHECK(bit_difference(run(LevelDevice(level, 2)), got) == "");
      }
  });
}

}  // namespace
}  // namespace swiftkv::test
