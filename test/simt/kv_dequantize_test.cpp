// kv_dequantize: the bits of the reference for every kind of cache, from pages written by the layout's definition.
#include <doctest/doctest.h>

#include <string>

#include "backends/cpu/scalar/ops.h"
#include "compare.h"
#include "kv_definition.h"
#include "reference.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

TEST_CASE("kv_dequantize reads code times scale from every slot and leaves rows without one") {
  for (const HeadShape& heads : kHeadShapes)
    for (const CacheKind& kind : kCacheKinds) {
      INFO("Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " cache ", std::string(kind.name));
      Rng rng(1);
      const int64_t width = int64_t{heads.num_kv_heads} * heads.head_dim, rows = static_cast<int64_t>(kSlots.size());
      const std::vector<float> k = random_values(rng, rows * width), v = random_values(rng, rows * width);
      Cache cache({kind.dtype, kind.scales, heads.num_kv_heads, heads.head_dim}, 4);
      for (size_t row = 0; row < kSlots.size(); ++row)
        if (kSlots[row] >= 0)
          store_by_definition(cache, kSlots[row], k.data() + static_cast<int64_t>(row) * width,
                              v.data() + static_cast<int64_t>(row) * width);
      const Tensor out_k(DType::f32, rows * width), out_v(DType::f32, rows * width);
      const Tensor expected_k(DType::f32, rows * width), expected_v(DType::f32, rows * width);
      run_reference(&cpu::scalar::kv_dequantize,
                    KvDequantizeParams{rows, kSlots.data(), cache.view(), expected_k.f32(), expected_v.f32()});
      for_each_schedule(
          [&] {
            const KvDequantizeParams p{rows, kSlots.data(), cache.view(), out_k.f32(), out_v.f32()};
            CHECK(why(SimtDevice().run(&cuda::kv_dequantize, p)) == "");
            CHECK(bit_difference(out_k.floats(), expected_k.floats()) == "");
            CHECK(bit_difference(out_v.floats(), expected_v.floats()) == "");
          },
          1);
    }
}

TEST_CASE("kv_dequantize of no rows") {
  const Cache cache({DType::bf16, KvScales::none, 2, 32}, 1);
  CHECK(why(SimtDevice().run(&cuda::kv_dequantize, KvDequantizeParams{0, nullptr, cache.view(), nullptr, nullptr})) ==
        "");
}

}  // namespace
}  // namespace swiftkv::test
