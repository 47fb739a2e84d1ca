// qkv_rope_cache on the host's executor: exact heads, pages, skipped rows, and row invariance over all tiles.
#include <doctest/doctest.h>

#include "projections.h"

namespace swiftkv::test {
namespace {

QkvRopeCacheParams on_device(const DeviceWeights& w, QkvRopeCacheParams params) {
  params.w = w.matrix();
  return params;
}

Status run(const SimtDevice& device, const QkvRopeCacheParams& params) {
  return device.run(&cuda::qkv_rope_cache, params, &cuda::qkv_rope_cache_scratch);
}

TEST_CASE("qkv_rope_cache: q, and k and v in the pages, equal double sums") {
  for (const HeadShape& heads : kTileHeadShapes)
    for (const auto& [types, normed] : with_and_without_norms()) {
      const CacheKind& kind = kCacheKinds[static_cast<size_t>(heads.head_dim / 2 + normed) % 3];
      const int64_t rows = heads.head_dim % 3 == 0 ? 33 : 7, d = 30 + heads.head_dim;
      INFO("Hq ", heads.num_heads, " Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " cache ",
           std::string(kind.name), " ", text(types), " rows ", rows, " normed ", normed);
      Qkv p(heads, kind, types, rows, d, 1);
      p.normed = normed;
      const DeviceWeights w(p.w);
      const QkvRopeCacheParams params = on_device(w, p.params(0, rows));
      CHECK(why(run(SimtDevice(), params)) == "");

      const std::vector<float> a = p.a.floats();
      const auto exact = [&](int64_t first, int64_t count, bool rotated, const float* norm) {
        return exact_heads(a, p.w, p.bias.data(), first, count, heads.head_dim, p.positions,
                           rotated ? p.rope.data() : nullptr, norm, kEps);
      };
      const ExactHeads q = exact(0, heads.num_heads, true, params.q_norm);
      ExactHeads k = exact(heads.num_heads, heads.num_kv_heads, true, params.k_norm);
      ExactHeads v = exact(heads.num_heads + heads.num_kv_heads, heads.num_kv_heads, false, nullptr);
      CHECK(difference(p.q.floats(), q.values, rounded_tolerance(q, types.q)) == "");
      skip_padding(k, p.slots);
      skip_padding(v, p.slots);
      std::vector<float> stored_k, stored_v;
      read_pages(p.cache, p.slots, stored_k, stored_v);
      CHECK(difference(stored_k, k.values, rounded_tolerance(k, kind.dtype)) == "");
      CHECK(difference(stored_v, v.values, rounded_tolerance(v, kind.dtype)) == "");
    }
}

TEST_CASE("qkv_rope_cache stores what the scalar level stores, with any scales and weights") {
  for (const CacheKind& kind : kCacheKinds)
    for (const ProjectionTypes& types : all_types())
      for (const bool fp8_activations : {false, true}) {
        if (fp8_activations && types.weights != DType::fp8_e4m3) continue;
        INFO("cache ", std::string(kind.name), " ", text(types), " in fp8 ", fp8_activations);
        Qkv p({3, 2, 48}, kind, types, 19, 80, 2);
        Qkv reference = p;
        QkvRopeCacheParams expected = reference.params(0, p.rows);
        expected.fp8_activations = fp8_activations;
        run_reference(&cpu::scalar::qkv_rope_cache, expected, &cpu::scalar::qkv_rope_cache_scratch);
        const DeviceWeights w(p.w);
        QkvRopeCacheParams params = on_device(w, p.params(0, p.rows));
        params.fp8_activations = fp8_activations;
        CHECK(why(run(SimtDevice(), params)) == "");
        std::vector<float> k, v, expected_k, expected_v;
        read_pages(p.cache, p.slots, k, v);
        read_pages(reference.cache, p.slots, expected_k, expected_v);
        const std::vector<float> q = reference.q.floats();
        constexpr double kError = 100 * kUnit;
        CHECK(difference(p.q.floats(), q, stored_tolerance(q, types.q, kError)) == "");
        CHECK(difference(k, expected_k, stored_tolerance(expected_k, kind.dtype, kError)) == "");
        CHECK(difference(v, expected_v, stored_tolerance(expected_v, kind.dtype, kError)) == "");
      }
}

TEST_CASE("qkv_rope_cache: heads too wide for a tile, on more rows than are staged at a time") {
  for (const ProjectionTypes& types : all_types())
    for (const bool fp8_activations : {false, true}) {
      if (fp8_activations && types.weights != DType::fp8_e4m3) continue;
      INFO(text(types), " in fp8 ", fp8_activations);
      Qkv p({1, 1, 258}, kCacheKinds[1], types, 259, 24, 7);
      Qkv reference = p;
      QkvRopeCacheParams expected = reference.params(0, p.rows);
      expected.fp8_activations = fp8_activations;
      run_reference(&cpu::scalar::qkv_rope_cache, expected, &cpu::scalar::qkv_rope_cache_scratch);
      const DeviceWeights w(p.w);
      QkvRopeCacheParams params = on_device(w, p.params(0, p.rows));
      params.fp8_activations = fp8_activations;
      CHECK(why(run(SimtDevice(), params)) == "");
      std::vector<float> k, v, expected_k, expected_v;
      read_pages(p.cache, p.slots, k, v);
      read_pages(reference.cache, p.slots, expected_k, expected_v);
      const std::vector<float> q = reference.q.floats();
      CHECK(difference(p.q.floats(), q, stored_tolerance(q, types.q, 100 * kUnit)) == "");
      CHECK(difference(k, expected_k, stored_tolerance(expected_k, DType::bf16, 100 * kUnit)) == "");
      CHECK(difference(v, expected_v, stored_tolerance(expected_v, DType::bf16, 100 * kUnit)) == "");
    }
}

TEST_CASE("qkv_rope_cache: q and pages have the same bits in any call, with any tile") {
  for (const HeadShape& heads : {HeadShape{2, 1, 64}, HeadShape{3, 1, 80}, HeadShape{1, 1, 256}, HeadShape{1, 1, 264}})
    for (const ProjectionTypes& types : all_types()) {
      const CacheKind& kind = kCacheKinds[static_cast<size_t>(heads.num_heads + static_cast<int>(types.q)) % 4];
      INFO("hd ", heads.head_dim, " cache ", std::string(kind.name), " ", text(types));
      Qkv p(heads, kind, types, heads.head_dim == 64 ? 70 : 35, 65, 3);
      p.normed = heads.head_dim != 80;
      const DeviceWeights w(p.w);
      CHECK(why(run(SimtDevice(chip_of(1)), on_device(w, p.params(0, p.rows)))) == "");
      const Tensor q = p.q;
      const Bytes pages = p.cache.memory;
      p.clear();
      for_each_row_chunking(
          p.rows,
          [&](const SimtDevice& device, int64_t first, int64_t count) {
            CHECK(why(run(device, on_device(w, p.params(first, count)))) == "");
          },
          [&] {
            CHECK(bit_difference(p.q.memory.data(), q.memory.data(), q.memory.size(), 1) == "");
            // All bytes: what belongs to no row must still be as it was.
            CHECK(bit_difference(p.cache.memory.data(), pages.data(), pages.size(), 1) == "");
            p.clear();
          });
    }
}

TEST_CASE("qkv_rope_cache has the same bytes under every schedule") {
  for (const HeadShape& heads : {HeadShape{1, 1, 64}, HeadShape{1, 1, 256}, HeadShape{1, 1, 272}})
    for (const ProjectionTypes& types : {kProjectionTypes[0], kProjectionTypes[1], kProjectionTypes[3]})
      for (const int64_t rows : {5, 20}) {
        // In f32 both widest ones are staged; the tile of few rows does not occur there.
        if (heads.head_dim == (types.weights == DType::f32 ? 256 : 0) || (rows == 5 && heads.head_dim == 272)) continue;
        INFO("hd ", heads.head_dim, " rows ", rows, " ", text(types));
        Qkv p(heads, kCacheKinds[2], types, rows, 136, 4);
        p.normed = true;
        const DeviceWeights w(p.w);
        const SimtDevice device;
        CHECK(why(run(device, on_device(w, p.params(0, rows)))) == "");
        const std::vector<float> q = p.q.floats();
        const Bytes pages = p.cache.memory;
        for_each_schedule([&] {
          p.clear();
          CHECK(why(run(device, on_device(w, p.params(0, rows)))) == "");
          CHECK(bit_difference(p.q.floats(), q) == "");
          CHECK(bit_difference(p.cache.memory.data(), pages.data(), pages.size(), 1) == "");
        });
      }
}

TEST_CASE("qkv_rope_cache keeps its threads in order [race]") {
  const simt::ScopedSchedule scoped({simt::Order::random, simt::Landing::random, 3});
  for (const HeadShape& heads : {HeadShape{2, 1, 20}, HeadShape{1, 1, 136}, HeadShape{1, 1, 272}})
    for (const ProjectionTypes& types : {kProjectionTypes[0], kProjectionTypes[1], kProjectionTypes[3]})
      for (const int64_t rows : {5, 18}) {
        INFO("hd ", heads.head_dim, " rows ", rows, " ", text(types));
        Qkv p(heads, kCacheKinds[2], types, rows, 40, 6);
        p.normed = true;
        const DeviceWeights w(p.w);
        CHECK(why(run(SimtDevice(), on_device(w, p.params(0, rows)))) == "");
        const ExactHeads q = exact_heads(p.a.floats(), p.w, p.bias.data(), 0, heads.num_heads, heads.head_dim,
                                         p.positions, p.rope.data(), p.q_norm.data(), kEps);
        CHECK(difference(p.q.floats(), q.values, rounded_tolerance(q, types.q)) == "");
      }
}

TEST_CASE("qkv_rope_cache works without a bias, and on no rows") {
  Qkv p({3, 1, 16}, kCacheKinds[0], kProjectionTypes[0], 6, 40, 5);
  const DeviceWeights w(p.w);
  QkvRopeCacheParams params = on_device(w, p.params(0, p.rows));
  params.bias = nullptr;
  CHECK(why(run(SimtDevice(), params)) == "");
  const ExactHeads q = exact_heads(p.a.floats(), p.w, nullptr, 0, 3, 16, p.positions, p.rope.data());
  CHECK(difference(p.q.floats(), q.values, rounded_tolerance(q, DType::f32)) == "");
  params.rows = 0;
  CHECK(why(run(SimtDevice(), params)) == "");
}

}  // namespace
}  // namespace swiftkv::test
