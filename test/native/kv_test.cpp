// kv_quantize, kv_dequantize, copy_blocks: page layout, exact codes, untouched neighbours.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "backends/cpu/cache_layout.h"
#include "compare.h"
#include "kv_definition.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

TEST_CASE("kv_quantize writes exactly the defined bytes and no others") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const HeadShape& heads : kHeadShapes)
      for (const CacheKind& kind : kCacheKinds) {
        INFO("Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " cache ", text(kind.name));
        Rng rng(1);
        const int64_t width = heads.num_kv_heads * heads.head_dim, rows = static_cast<int64_t>(kSlots.size());
        std::vector<float> k = random_values(rng, rows * width, 2.0f), v = random_values(rng, rows * width, 50.0f);
        for (int64_t i = 0; i < heads.head_dim; ++i) k[static_cast<size_t>(i)] = 0.0f;  // a head of zeros: scale 1
        v[static_cast<size_t>(width)] = NAN;  // stays NaN, and does not become the scale
        Cache cache({kind.dtype, kind.scales, heads.num_kv_heads, heads.head_dim}, 4), expected = cache;
        const KvQuantizeParams p{rows, k.data(), v.data(), kSlots.data(), cache.view()};
        CHECK(device.run(OpKind::kv_quantize, &p).ok());
        for (size_t row = 0; row < kSlots.size(); ++row)
          if (kSlots[row] >= 0)
            store_by_definition(expected, kSlots[row], k.data() + static_cast<int64_t>(row) * width,
                                v.data() + static_cast<int64_t>(row) * width);
        CHECK(bit_difference(cache.memory.data(), expected.memory.data(), cache.memory.size(), 1) == "");
      }
  });
}

TEST_CASE("kv_dequantize reads code times scale from every slot") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const HeadShape& heads : kHeadShapes)
      for (const CacheKind& kind : kCacheKinds) {
        INFO("Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " cache ", text(kind.name));
        Rng rng(2);
        const int64_t width = heads.num_kv_heads * heads.head_dim, rows = static_cast<int64_t>(kSlots.size());
        const std::vector<float> k = random_values(rng, rows * width), v = random_values(rng, rows * width);
        Cache cache({kind.dtype, kind.scales, heads.num_kv_heads, heads.head_dim}, 4);
        for (size_t row = 0; row < kSlots.size(); ++row)
          if (kSlots[row] >= 0)
            store_by_definition(cache, kSlots[row], k.data() + static_cast<int64_t>(row) * width,
                                v.data() + static_cast<int64_t>(row) * width);
        const Tensor out_k(DType::f32, rows * width), out_v(DType::f32, rows * width);
        const KvDequantizeParams p{rows, kSlots.data(), cache.view(), out_k.f32(), out_v.f32()};
        CHECK(device.run(OpKind::kv_dequantize, &p).ok());
        std::vector<float> expected_k, expected_v;
        for (size_t row = 0; row < kSlots.size(); ++row)
          for (int64_t i = 0; i < width; ++i) {
            const int64_t head = i / heads.head_dim, offset = kSlots[row] % 16, j = i % heads.head_dim;
            if (kSlots[row] < 0) {  // left as it was
              expected_k.push_back(out_k.f32()[static_cast<int64_t>(row) * width + i]);
              expected_v.push_back(out_v.f32()[static_cast<int64_t>(row) * width + i]);
              continue;
            }
            const cpu::HeadBlock b = cpu::head_block(cache.view(), kSlots[row] / 16, head);
            const auto decode = [&](const std::byte* part, float scale) {
              const int64_t at = offset * heads.head_dim + j;
              if (kind.dtype == DType::f32) return reinterpret_cast<const float*>(part)[at];
              if (kind.dtype == DType::bf16) return to_f32(reinterpret_cast<const bf16*>(part)[at]);
              return to_f32(reinterpret_cast<const fp8_e4m3*>(part)[at]) * scale;
            };
            expected_k.push_back(decode(b.k, cpu::stored_k_scale(cache.view(), b, head, offset)));
            expected_v.push_back(decode(b.v, cpu::stored_v_scale(cache.view(), b, head, offset)));
          }
        CHECK(bit_difference(out_k.floats(), expected_k) == "");
        CHECK(bit_difference(out_v.floats(), expected_v) == "");
      }
  });
}

TEST_CASE("copy_blocks copies whole blocks of every cache, in order, and nothing else") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 3);
    std::vector<Cache> caches;
    for (const CacheKind& kind : kCacheKinds) caches.emplace_back(CacheShape{kind.dtype, kind.scales, 2, 24}, 6);
    Rng rng(3);
    std::vector<KvCache> views;
    std::vector<Bytes> expected;
    for (Cache& c : caches) {
      for (size_t i = 0; i < c.memory.size(); ++i) c.memory.data()[i] = static_cast<std::byte>(rng.next());
      views.push_back(c.view());
      expected.push_back(c.memory);
    }
    const std::vector<int32_t> from{0, 5, 1, 3}, to{1, 2, 3, 3};  // block 3 gets what block 1 has just got
    const CopyBlocksParams p{4, from.data(), to.data(), views.data(), static_cast<int32_t>(views.size())};
    CHECK(device.run(OpKind::copy_blocks, &p).ok());
    for (size_t c = 0; c < caches.size(); ++c) {
      const auto bytes = static_cast<size_t>(views[c].block_bytes);
      std::byte* e = expected[c].data();
      std::memcpy(e + bytes, e, bytes);
      std::memcpy(e + 2 * bytes, e + 5 * bytes, bytes);
      std::memcpy(e + 3 * bytes, e, bytes);
      CHECK(bit_difference(caches[c].memory.data(), e, expected[c].size(), 1) == "");
    }
  });
}

}  // namespace
}  // namespace swiftkv::test
