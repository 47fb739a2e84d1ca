// rms_norm: against double, and row invariance.
#include <doctest/doctest.h>

#include <cmath>

#include "compare.h"
#include "fixtures.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

TEST_CASE("rms_norm equals double at every level and does not depend on chunks or threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (int64_t dim : kWidths)
      for (DType dtype : {DType::f32, DType::bf16}) {
        const int64_t rows = 19;
        INFO("dim ", dim, " out ", text(dtype_name(dtype)));
        Rng rng(1);
        const std::vector<float> x = random_values(rng, rows * dim, 3.0f), w = random_values(rng, dim, 2.0f);
        Tensor out(dtype, rows * dim);
        const auto run = [&](const LevelDevice& device, int64_t first, int64_t count) {
          const RmsNormParams p{count, dim, x.data() + first * dim, w.data(), 1e-5f, out.activation_at(first * dim)};
          CHECK(device.run(OpKind::rms_norm, &p).ok());
        };
        run(LevelDevice(level), 0, rows);
        std::vector<float> expected;
        for (size_t i = 0; i < x.size(); ++i) {
          const size_t row = i / static_cast<size_t>(dim), column = i % static_cast<size_t>(dim);
          double squares = 0.0;
          for (size_t j = 0; j < static_cast<size_t>(dim); ++j) {
            const auto value = static_cast<double>(x[row * static_cast<size_t>(dim) + j]);
            squares += value * value;
          }
          expected.push_back(static_cast<float>(static_cast<double>(w[column]) * static_cast<double>(x[i]) /
                                                std::sqrt(squares / static_cast<double>(dim) + 1e-5)));
        }
        // The sum of dim squares walks sqrt(dim) roundings, halved by the root; then five operations.
        const double rel =
            (2.0 * std::sqrt(static_cast<double>(dim)) + 8.0) * kUnit + (dtype == DType::bf16 ? 1.01 * kUnitBf16 : 0.0);
        CHECK(difference(out.floats(), expected, 0.0, rel) == "");
        const std::vector<float> whole = out.floats();
        out = Tensor(dtype, rows * dim);
        for_each_chunking(level, rows, run, [&] {
          CHECK(bit_difference(out.floats(), whole) == "");
          out = Tensor(dtype, rows * dim);
        });
      }
  });
}

TEST_CASE("rms_norm of zeros is zero, and of NaN is NaN in that row only") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    std::vector<float> x(3 * 40, 0.0f), w(40, 1.0f);
    x[41] = NAN;
    Tensor out(DType::f32, 3 * 40);
    const RmsNormParams p{3, 40, x.data(), w.data(), 1e-6f, out.activation()};
    CHECK(device.run(OpKind::rms_norm, &p).ok());
    const std::vector<float> y = out.floats();
    for (size_t i = 0; i < y.size(); ++i) CHECK((i / 40 == 1 ? std::isnan(y[i]) : y[i] == 0.0f));
  });
}

}  // namespace
}  // namespace swiftkv::test
