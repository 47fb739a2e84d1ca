// kv_quantize: exactly the bytes of the layout's definition, and no others.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "compare.h"
#include "kv_definition.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

TEST_CASE("kv_quantize writes exactly the defined bytes and no others") {
  for (const int arch : {80, 90})
    for (const HeadShape& heads : kHeadShapes)
      for (const CacheKind& kind : kCacheKinds) {
        INFO("arch ", arch, " Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " cache ", std::string(kind.name));
        Rng rng(1);
        const int64_t width = int64_t{heads.num_kv_heads} * heads.head_dim, rows = static_cast<int64_t>(kSlots.size());
        std::vector<float> k = random_values(rng, rows * width, 2.0f), v = random_values(rng, rows * width, 50.0f);
        for (int64_t i = 0; i < heads.head_dim; ++i) k[static_cast<size_t>(i)] = 0.0f;  // a head of zeros: scale 1
        v[static_cast<size_t>(width)] = NAN;  // stays NaN, and does not become the scale
        const Cache cache({kind.dtype, kind.scales, heads.num_kv_heads, heads.head_dim}, 4);
        Cache expected = cache;
        const KvQuantizeParams p{rows, k.data(), v.data(), kSlots.data(), cache.view()};
        CHECK(why(SimtDevice(arch).run(&cuda::kv_quantize, p)) == "");
        for (size_t row = 0; row < kSlots.size(); ++row)
          if (kSlots[row] >= 0)
            store_by_definition(expected, kSlots[row], k.data() + static_cast<int64_t>(row) * width,
                                v.data() + static_cast<int64_t>(row) * width);
        if (kind.dtype == DType::bf16) {  // the device's NaN has a payload of its own
          const uint16_t nan = 0x7fff;
          std::memcpy(expected.memory.data() + (16 + kSlots[1]) * heads.head_dim * 2, &nan, 2);
        }
        CHECK(bit_difference(cache.memory.data(), expected.memory.data(), cache.memory.size(), 1) == "");
      }
}

TEST_CASE("kv_quantize: every number of rows, in any schedule") {
  for (const CacheKind& kind : kCacheKinds)
    for (const int64_t rows : kRowCounts) {
      INFO("cache ", std::string(kind.name), " rows ", rows);
      Rng rng(2);
      const int64_t width = 3 * 32;
      const std::vector<float> k = random_values(rng, rows * width), v = random_values(rng, rows * width);
      std::vector<int32_t> slots;
      for (int64_t i = 0; i < rows; ++i) slots.push_back(static_cast<int32_t>((i * 5) % 112));
      Cache expected({kind.dtype, kind.scales, 3, 32}, 7);
      for (int64_t i = 0; i < rows; ++i)
        store_by_definition(expected, slots[static_cast<size_t>(i)], k.data() + i * width, v.data() + i * width);
      for_each_schedule(
          [&] {
            const Cache cache({kind.dtype, kind.scales, 3, 32}, 7);
            const KvQuantizeParams p{rows, k.data(), v.data(), slots.data(), cache.view()};
            CHECK(why(SimtDevice().run(&cuda::kv_quantize, p)) == "");
            CHECK(bit_difference(cache.memory.data(), expected.memory.data(), cache.memory.size(), 1) == "");
          },
          2);
    }
}

}  // namespace
}  // namespace swiftkv::test
