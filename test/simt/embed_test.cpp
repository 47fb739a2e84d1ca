// embed from this backend's panels: exactly the values that the table holds, in every type, at any width.
#include <doctest/doctest.h>

#include "compare.h"
#include "device_weights.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

TEST_CASE("embed reads rows of panels of every type") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::fp8_e4m3, DType::int8, DType::int4})
    for (const int64_t d : kWidths) {
      INFO("table ", std::string(dtype_name(dtype)), " d ", d);
      Rng rng(1);
      const int64_t vocab = 131;
      const Weights table(dtype, Layout::panels, vocab, d, random_values(rng, vocab * d));
      const DeviceWeights on_device(table);
      const std::vector<int32_t> ids{0, 130, 63, 64, 65, 63, 1, 127, 128};
      const Tensor x(DType::f32, static_cast<int64_t>(ids.size()) * d);
      const EmbedParams p{static_cast<int64_t>(ids.size()), ids.data(), on_device.matrix(), x.f32()};
      std::vector<float> expected;
      for (const int32_t id : ids)
        for (int64_t j = 0; j < d; ++j) expected.push_back(table.values[static_cast<size_t>(id * d + j)]);
      for_each_schedule(
          [&] {
            CHECK(why(SimtDevice().run(&cuda::embed, p)) == "");
            CHECK(bit_difference(x.floats(), expected) == "");
          },
          0);
    }
}

}  // namespace
}  // namespace swiftkv::test
