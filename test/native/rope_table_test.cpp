// rope_table: correctly rounded up to the longest contexts.
#include <doctest/doctest.h>

#include <cmath>

#include "compare.h"
#include "fixtures.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

TEST_CASE("rope_table: cosines, then sines, of the f32 angle, exact far beyond one turn") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (int32_t hd : {2, 8, 80, 128}) {
      INFO("hd ", hd);
      const int64_t positions = hd == 8 ? 140000 : 300;
      std::vector<float> inv_freq;
      for (int32_t i = 0; i < hd / 2; ++i)
        inv_freq.push_back(static_cast<float>(std::pow(500000.0, -2.0 * i / static_cast<double>(hd))));
      const Tensor table(DType::f32, positions * hd);
      const RopeTableParams p{positions, hd, inv_freq.data(), table.f32()};
      CHECK(device.run(OpKind::rope_table, &p).ok());
      std::vector<float> expected;
      for (int64_t position = 0; position < positions; ++position)
        for (int pass = 0; pass < 2; ++pass)
          for (float f : inv_freq) {
            const auto angle = static_cast<double>(static_cast<float>(position) * f);
            expected.push_back(static_cast<float>(pass == 0 ? std::cos(angle) : std::sin(angle)));
          }
      CHECK(bit_difference(table.floats(), expected) == "");
    }
  });
}

}  // namespace
}  // namespace swiftkv::test
