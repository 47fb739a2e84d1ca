// qkv_rope_cache, q_rope and swiftkv_project: exact heads, pages, skipped rows and row invariance.
#include <doctest/doctest.h>

#include "projection_problems.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

// What the pages hold in the given slots; rows of -1 are zero.
void read_slots(const Cache& cache, const std::vector<int32_t>& slots, std::vector<float>& k, std::vector<float>& v) {
  const size_t count = slots.size() * static_cast<size_t>(cache.shape.num_kv_heads * cache.shape.head_dim);
  k.assign(count, 0.0f);
  v.assign(count, 0.0f);
  const KvDequantizeParams p{static_cast<int64_t>(slots.size()), slots.data(), cache.view(), k.data(), v.data()};
  check(LevelDevice(cpu::CpuLevel::scalar).run(OpKind::kv_dequantize, &p));
}

// ---- qkv_rope_cache ----

TEST_CASE("qkv_rope_cache: q, and k and v in the pages, equal double sums at every level") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const HeadShape& heads : kHeadShapes)
      for (const CacheKind& kind : kCacheKinds)
        for (const auto& [types, normed] : with_and_without_norms()) {
          const int64_t rows = 1 + heads.head_dim % 19, d = 30 + heads.head_dim;
          INFO("Hq ", heads.num_heads, " Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " cache ", text(kind.name),
               " w ", text(dtype_name(types.weights)), " q ", text(dtype_name(types.q)), " rows ", rows, " normed ",
               normed);
          Qkv p(heads, kind, types, rows, d, 1);
          p.normed = normed;
          const QkvRopeCacheParams params = p.params(0, rows);
          CHECK(device.run(OpKind::qkv_rope_cache, &params).ok());

          const std::vector<float> a = p.a.floats();
          const auto exact = [&](int64_t first, int64_t count, bool rotated, const float* norm) {
            return exact_heads(a, p.w, p.bias.data(), first, count, heads.head_dim, p.positions,
                               rotated ? p.rope.data() : nullptr, norm, kEps);
          };
          const ExactHeads q = exact(0, heads.num_heads, true, params.q_norm);
          ExactHeads k = exact(heads.num_heads, heads.num_kv_heads, true, params.k_norm);
          ExactHeads v = exact(heads.num_heads + heads.num_kv_heads, heads.num_kv_heads, false, nullptr);
          CHECK(difference(p.q.floats(), q.values, rounded_tolerance(q, types.q)) == "");
          if (kind.scales == KvScales::per_head) continue;  // saturates at these scales; kv_quantize covers it
          skip_padding(k, p.slots);
          skip_padding(v, p.slots);
          std::vector<float> stored_k, stored_v;
          read_slots(p.cache, p.slots, stored_k, stored_v);
          CHECK(difference(stored_k, k.values, rounded_tolerance(k, kind.dtype)) == "");
          CHECK(difference(stored_v, v.values, rounded_tolerance(v, kind.dtype)) == "");
        }
  });
}

TEST_CASE("qkv_rope_cache: q and pages have the same bits in any chunking and with any threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (const HeadShape& heads : {HeadShape{4, 2, 64}, HeadShape{5, 1, 80}, HeadShape{2, 2, 8}})
      for (const CacheKind& kind : kCacheKinds)
        for (const ProjectionTypes& types : all_types()) {
          INFO("hd ", heads.head_dim, " cache ", text(kind.name), " w ", text(dtype_name(types.weights)));
          Qkv p(heads, kind, types, 35, 129, 2);
          p.normed = heads.head_dim != 80;
          const QkvRopeCacheParams whole = p.params(0, p.rows);
          CHECK(LevelDevice(level).run(OpKind::qkv_rope_cache, &whole).ok());
          const Tensor q = p.q;
          const Bytes pages = p.cache.memory;
          p.clear();
          for_each_chunking(
              level, p.rows,
              [&](const LevelDevice& device, int64_t first, int64_t count) {
                const QkvRopeCacheParams params = p.params(first, count);
                CHECK(device.run(OpKind::qkv_rope_cache, &params).ok());
              },
              [&] {
                CHECK(bit_difference(p.q.memory.data(), q.memory.data(), q.memory.size(), 1) == "");
                // All bytes: what belongs to no row must still be as it was.
                CHECK(bit_difference(p.cache.memory.data(), pages.data(), pages.size(), 1) == "");
                p.clear();
              });
        }
  });
}

TEST_CASE("qkv_rope_cache works without a bias") {
  for_each_level([](cpu::CpuLevel level) {
    Qkv p({3, 1, 16}, kCacheKinds[0], kProjectionTypes[0], 6, 40, 3);
    QkvRopeCacheParams params = p.params(0, p.rows);
    params.bias = nullptr;
    CHECK(LevelDevice(level).run(OpKind::qkv_rope_cache, &params).ok());
    const ExactHeads q = exact_heads(p.a.floats(), p.w, nullptr, 0, 3, 16, p.positions, p.rope.data());
    CHECK(difference(p.q.floats(), q.values, rounded_tolerance(q, DType::f32)) == "");
  });
}

// ---- q_rope ----

TEST_CASE("q_rope equals double sums, and its rows do not depend on chunks or threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (const HeadShape& heads : kHeadShapes)
      for (const auto& [types, normed] : with_and_without_norms()) {
        const int64_t rows = 21, d = 50 + heads.head_dim % 7, width = heads.num_heads * heads.head_dim;
        INFO("Hq ", heads.num_heads, " hd ", heads.head_dim, " w ", text(dtype_name(types.weights)), " q ",
             text(dtype_name(types.q)), " normed ", normed);
        Rng rng(4);
        const Tensor a(types.a, random_values(rng, rows * d));
        const Weights w(types.weights, Layout::panels, width, d, random_values(rng, width * d));
        const std::vector<float> bias = random_values(rng, width), rope = rope_rows(kPositions, heads.head_dim);
        const std::vector<int32_t> positions = random_positions(rows, rng);
        const std::vector<float> norm_weights = random_values(rng, heads.head_dim);
        const float* norm = normed ? norm_weights.data() : nullptr;
        Tensor q(types.q, rows * width);
        const auto run = [&](const LevelDevice& device, int64_t first, int64_t count) {
          const QRopeParams p{count,
                              heads.num_heads,
                              heads.head_dim,
                              a.activation_at(first * d),
                              w.matrix,
                              bias.data(),
                              rope.data(),
                              positions.data() + first,
                              q.activation_at(first * width),
                              false,
                              norm,
                              kEps};
          CHECK(device.run(OpKind::q_rope, &p).ok());
        };
        run(LevelDevice(level, 2), 0, rows);
        const ExactHeads exact = exact_heads(a.floats(), w, bias.data(), 0, heads.num_heads, heads.head_dim, positions,
                                             rope.data(), norm, kEps);
        CHECK(difference(q.floats(), exact.values, rounded_tolerance(exact, types.q)) == "");
        const std::vector<float> whole = q.floats();
        q = Tensor(types.q, rows * width);
        for_each_chunking(level, rows, run, [&] {
          CHECK(bit_difference(q.floats(), whole) == "");
          q = Tensor(types.q, rows * width);
        });
      }
  });
}

TEST_CASE("q_rope and qkv_rope_cache give the same bits for the same query weights") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const ProjectionTypes& types : kProjectionTypes) {
      if (is_quantized(types.weights)) continue;  // values that are quantized anew have other scales
      const HeadShape heads{4, 2, 80};
      Qkv p(heads, kCacheKinds[0], types, 18, 100, 5);
      p.normed = true;
      const QkvRopeCacheParams params = p.params(0, p.rows);
      CHECK(device.run(OpKind::qkv_rope_cache, &params).ok());
      std::vector<float> query_rows = p.w.values;
      query_rows.resize(static_cast<size_t>(4 * 80 * p.d));
      const Weights w(types.weights, Layout::panels, 4 * 80, p.d, query_rows);
      Tensor q(types.q, p.q.count);
      const QRopeParams alone{p.rows,
                              4,
                              80,
                              p.a.activation(),
                              w.matrix,
                              p.bias.data(),
                              p.rope.data(),
                              p.positions.data(),
                              q.activation(),
                              false,
                              p.q_norm.data(),
                              kEps};
      CHECK(device.run(OpKind::q_rope, &alone).ok());
      CHECK(bit_difference(q.floats(), p.q.floats()) == "");
    }
  });
}

// ---- swiftkv_project ----

void run(const Project& problem, const LevelDevice& device, int64_t first, int64_t count) {
  const SwiftkvProjectParams params = problem.params(first, count);
  CHECK(device.run(OpKind::swiftkv_project, &params).ok());
}

TEST_CASE("swiftkv_project writes keys and values of all groups as double sums of one normalised vector") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const HeadShape& heads : kHeadShapes)
      for (const CacheKind& kind : kCacheKinds)
        for (DType weights : {DType::f32, DType::bf16, DType::fp8_e4m3}) {
          if (kind.scales == KvScales::per_head) continue;  // saturates at these scales
          const int32_t groups = 1 + heads.num_heads % 3;
          INFO("Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " groups ", groups, " cache ", text(kind.name), " w ",
               text(dtype_name(weights)));
          Project p(heads, kind, weights, groups, 19, 41, 6);
          p.normed = heads.num_heads % 2 == 0;
          run(p, device, 0, p.rows);

          // z as a level may round it: one bf16 step of z when the weights are bf16.
          std::vector<float> z;
          for (int64_t row = 0; row < p.rows; ++row) {
            double squares = 0.0;
            for (int64_t i = 0; i < p.d; ++i) {
              const auto value = static_cast<double>(p.x[static_cast<size_t>(row * p.d + i)]);
              squares += value * value;
            }
            const double r = 1.0 / std::sqrt(squares / static_cast<double>(p.d) + 1e-5);
            for (int64_t i = 0; i < p.d; ++i)
              z.push_back(static_cast<float>(static_cast<double>(p.x[static_cast<size_t>(row * p.d + i)]) * r *
                                             static_cast<double>(p.norm[static_cast<size_t>(i)])));
          }
          const Tensor rounded(weights == DType::bf16 ? DType::bf16 : DType::f32, z);
          for (int32_t g = 0; g < groups; ++g) {
            std::vector<float> k, v;
            read_slots(p.caches[static_cast<size_t>(g)], p.slots, k, v);
            for (const bool keys : {true, false}) {
              const int64_t first = (g * 2 + (keys ? 0 : 1)) * heads.num_kv_heads;
              // A norm that is off by one f32 rounding moves a few z to the next bf16: one such flip per sum.
              const double flip = weights == DType::bf16 ? 2.0 * kUnitBf16 * 2.0 : 16.0 * kUnit * 41;
              ExactHeads e = exact_heads(rounded.floats(), p.w, p.bias.data(), first, heads.num_kv_heads,
                                         heads.head_dim, p.positions, keys ? p.rope.data() : nullptr,
                                         keys && p.normed ? p.k_norm.data() + g * heads.head_dim : nullptr, kEps, flip);
              skip_padding(e, p.slots);
              CHECK(difference(keys ? k : v, e.values, rounded_tolerance(e, kind.dtype)) == "");
            }
          }
        }
  });
}

TEST_CASE("swiftkv_project: pages have the same bytes in any chunking and with any threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (const HeadShape& heads : {HeadShape{4, 2, 64}, HeadShape{3, 3, 24}, HeadShape{5, 1, 80}})
      for (const CacheKind& kind : kCacheKinds)
        for (DType weights : {DType::f32, DType::bf16, DType::fp8_e4m3, DType::int8, DType::int4}) {
          INFO("hd ", heads.head_dim, " cache ", text(kind.name), " w ", text(dtype_name(weights)));
          Project p(heads, kind, weights, 2, 35, 130, 7);
          p.normed = heads.head_dim != 64;
          run(p, LevelDevice(level), 0, p.rows);
          const std::vector<Bytes> whole = p.pages();
          p.clear();
          for_each_chunking(
              level, p.rows,
              [&](const LevelDevice& device, int64_t first, int64_t count) { run(p, device, first, count); },
              [&] {
                for (size_t g = 0; g < whole.size(); ++g)
                  CHECK(bit_difference(p.caches[g].memory.data(), whole[g].data(), whole[g].size(), 1) == "");
                p.clear();
              });
        }
  });
}

}  // namespace
}  // namespace swiftkv::test
