// silu_mul: against double, extreme gates, and row invariance.
#include <doctest/doctest.h>

#include <cmath>

#include "compare.h"
#include "fixtures.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

TEST_CASE("silu_mul equals double at every level and does not depend on chunks or threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (int64_t ff : kWidths)
      for (DType in : {DType::f32, DType::bf16})
        for (DType result : {DType::f32, DType::bf16}) {
          const int64_t rows = 17;
          INFO("ff ", ff, " in ", text(dtype_name(in)), " out ", text(dtype_name(result)));
          Rng rng(1);
          std::vector<float> values = random_values(rng, rows * 2 * ff, 20.0f);
          const Tensor gate_up(in, values);
          Tensor out(result, rows * ff);
          const auto run = [&](const LevelDevice& device, int64_t first, int64_t count) {
            const SiluMulParams p{count, ff, gate_up.activation_at(first * 2 * ff), out.activation_at(first * ff)};
            CHECK(device.run(OpKind::silu_mul, &p).ok());
          };
          run(LevelDevice(level), 0, rows);
          values = gate_up.floats();
          std::vector<float> expected;
          for (int64_t row = 0; row < rows; ++row)
            for (int64_t j = 0; j < ff; ++j) {
              const auto g = static_cast<double>(values[static_cast<size_t>(row * 2 * ff + j)]);
              const auto u = static_cast<double>(values[static_cast<size_t>((row * 2 + 1) * ff + j)]);
              expected.push_back(static_cast<float>(g / (1.0 + std::exp(-g)) * u));
            }
          // exp within 2 units of its value, then four operations.
          const double rel = 8.0 * kUnit + (result == DType::bf16 ? 1.01 * kUnitBf16 : 0.0);
          CHECK(difference(out.floats(), expected, 0.0, rel) == "");
          const std::vector<float> whole = out.floats();
          out = Tensor(result, rows * ff);
          for_each_chunking(level, rows, run, [&] {
            CHECK(bit_difference(out.floats(), whole) == "");
            out = Tensor(result, rows * ff);
          });
        }
  });
}

TEST_CASE("silu_mul of huge gates neither overflows nor turns to NaN") {
  for_each_level([](cpu::CpuLevel level) {
    const std::vector<float> gate_up{-1e4f, -200.0f, -100.0f, -88.0f, 0.0f, 88.0f, 200.0f, 1e4f,
                                     1.0f,  1.0f,    1.0f,    1.0f,   1.0f, 1.0f,  1.0f,   1.0f};
    const Tensor in(DType::f32, gate_up);
    const Tensor out(DType::f32, 8);
    const SiluMulParams p{1, 8, in.activation(), out.activation()};
    CHECK(LevelDevice(level).run(OpKind::silu_mul, &p).ok());
    // exp(88) is near the end of f32: below -88 the result is within the smallest normals of zero.
    CHECK(difference(out.floats(), {0, 0, 0, 0, 0, 88.0f, 200.0f, 1e4f}, 1e-35, 2 * kUnit) == "");
  });
}

}  // namespace
}  // namespace swiftkv::test
