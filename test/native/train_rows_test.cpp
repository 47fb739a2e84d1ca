// Training's ops on rows, its gradient norm and AdamW: every level against the scalar one, which test/kernels compares
// with double precision, and the same bits for any number of threads. NEON is tested nowhere else.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "compare.h"
#include "core/train_ops.h"
#include "fixtures.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

constexpr int64_t kRows = 130;  // two pieces of 64 and a rest

// run(device) returns all that an op wrote.
template <class F>
void compare_levels(F&& run, double abs, double rel) {
  const std::vector<float> expected = run(LevelDevice(cpu::CpuLevel::scalar));
  for_each_level([&](cpu::CpuLevel level) {
    const std::vector<float> one = run(LevelDevice(level));
    CHECK(difference(one, expected, abs, rel) == "");
    for (int threads : {2, 3}) CHECK(bit_difference(run(LevelDevice(level, threads)), one) == "");
  });
}

void append(std::vector<float>& to, const std::vector<float>& values) {
  to.insert(to.end(), values.begin(), values.end());
}

// Values of one sign, none of them small: sums do not cancel.
std::vector<float> positive_values(Rng& rng, int64_t count) {
  std::vector<float> values = random_values(rng, count, 0.5f);
  for (float& x : values) x += 1.0f;
  return values;
}

TEST_CASE("cast_rows writes the same bits at every level") {
  for (int64_t dim : kWidths) {
    Rng rng(1);
    const Tensor in(DType::f32, random_values(rng, kRows * dim, 3.0f));
    compare_levels(
        [&](const LevelDevice& device) {
          const Tensor out(DType::bf16, kRows * dim);
          const CastRowsParams p{kRows, dim, in.f32(), out.activation()};
          CHECK(device.run(OpKind::cast_rows, &p).ok());
          return out.floats();
        },
        0.0, 0.0);
  }
}

TEST_CASE("rms_norm_backward agrees with the scalar level") {
  for (int64_t dim : kWidths)
    for (bool weights : {false, true}) {
      INFO("dim ", dim, " dw ", weights);
      Rng rng(2);
      const Tensor x(DType::f32, positive_values(rng, kRows * dim)), w(DType::f32, random_values(rng, dim)),
          dout(DType::f32, random_values(rng, kRows * dim));
      // r is at most 2 and no summand above 20; sums of dim and of rows values walk the root of their number.
      const double walk =
          2.0 * std::sqrt(static_cast<double>(dim)) + 2.0 * std::sqrt(static_cast<double>(kRows)) + 32.0;
      compare_levels(
          [&](const LevelDevice& device) {
            const Tensor dx(DType::f32, std::vector<float>(static_cast<size_t>(kRows * dim), 0.5f));
            const Tensor dw(DType::f32, std::vector<float>(static_cast<size_t>(dim), 0.5f));
            const RmsNormBackwardParams p{kRows, dim,        x.f32(),  w.f32(),
                                          1e-5f, dout.f32(), dx.f32(), weights ? dw.f32() : nullptr};
            CHECK(device.run(OpKind::rms_norm_backward, &p).ok());
            std::vector<float> written = dx.floats();
            append(written, dw.floats());
            return written;
          },
          40.0 * walk * kUnit, 0.0);
    }
}

TEST_CASE("silu_mul_backward agrees with the scalar level") {
  for (int64_t ff : kWidths)
    for (DType dtype : {DType::f32, DType::bf16}) {
      Rng rng(3);
      const Tensor gate_up(dtype, random_values(rng, kRows * 2 * ff, 10.0f));
      const Tensor dout(DType::f32, random_values(rng, kRows * ff));
      // 1 + g (1 - sigmoid) may cancel: 10 dout units; bf16 may round to the other side.
      compare_levels(
          [&](const LevelDevice& device) {
            const Tensor out(dtype, kRows * 2 * ff);
            const SiluMulBackwardParams p{kRows, ff, gate_up.activation(), dout.f32(), out.activation()};
            CHECK(device.run(OpKind::silu_mul_backward, &p).ok());
            return out.floats();
          },
          640.0 * kUnit, 32.0 * kUnit + (dtype == DType::bf16 ? 2.0 * kUnitBf16 : 0.0));
    }
}

TEST_CASE("mse agrees with the scalar level") {
  for (int64_t dim : kWidths) {
    Rng rng(4);
    const Tensor x(DType::f32, random_values(rng, kRows * dim)), target(DType::f32, random_values(rng, kRows * dim));
    const Tensor weights(DType::f32, random_values(rng, kRows));
    compare_levels(
        [&](const LevelDevice& device) {
          const Tensor dx(DType::f32, std::vector<float>(static_cast<size_t>(kRows * dim), 0.5f));
          const Tensor loss(DType::f32, kRows);
          const MseParams p{kRows, dim, x.f32(), target.f32(), weights.f32(), loss.f32(), dx.f32()};
          CHECK(device.run(OpKind::mse, &p).ok());
          std::vector<float> written = dx.floats();
          append(written, loss.floats());
          return written;
        },
        16.0 * kUnit, (2.0 * std::sqrt(static_cast<double>(dim)) + 8.0) * kUnit);
  }
}

TEST_CASE("embed_backward writes the same bits at every level") {
  constexpr int64_t kVocab = 7;
  for (int64_t dim : kWidths) {
    Rng rng(5);
    const Tensor dx(DType::f32, random_values(rng, kRows * dim));
    std::vector<int32_t> ids(kRows);
    for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(kVocab));
    compare_levels(
        [&](const LevelDevice& device) {
          const Tensor table(DType::f32, std::vector<float>(static_cast<size_t>(kVocab * dim), 0.5f));
          const EmbedBackwardParams p{kRows, dim, kVocab, ids.data(), dx.f32(), table.f32()};
          CHECK(device.run(OpKind::embed_backward, &p).ok());
          return table.floats();
        },
        0.0, 0.0);
  }
}

TEST_CASE("sum_squares agrees with the scalar level to one unit") {
  for (int64_t count : {1, 7, 8, 31, 32, 33, 1000, 65535, 65536, 65537, 200000}) {
    Rng rng(6);
    const Tensor x(DType::f32, random_values(rng, count));
    compare_levels(
        [&](const LevelDevice& device) {
          const Tensor out(DType::f32, 1);
          const SumSquaresParams p{count, x.f32(), out.f32()};
          CHECK(device.run(OpKind::sum_squares, &p).ok());
          return out.floats();
        },
        0.0, 2.0 * kUnit);
  }
}

TEST_CASE("adamw agrees with the scalar level, and does nothing but drop a gradient whose norm is no number") {
  for (int64_t count : {1, 15, 16, 17, 1000, 16383, 16384, 16385})
    for (float squares : {4.0f, NAN, INFINITY}) {
      Rng rng(7);
      const std::vector<float> gradient = random_values(rng, count), m = random_values(rng, count),
                               v = positive_values(rng, count), x = random_values(rng, count);
      const std::vector<float> hyper{1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 0.1f, 1e-3f, 1.0f};
      compare_levels(
          [&](const LevelDevice& device) {
            const Tensor grad_(DType::f32, gradient), m_(DType::f32, m), v_(DType::f32, v), x_(DType::f32, x);
            const AdamwParams p{count, hyper.data(), &squares, grad_.f32(), m_.f32(), v_.f32(), x_.f32()};
            CHECK(device.run(OpKind::adamw, &p).ok());
            CHECK(grad_.floats() == std::vector<float>(gradient.size(), 0.0f));
            if (!std::isfinite(squares)) CHECK((m_.floats() == m && v_.floats() == v && x_.floats() == x));
            std::vector<float> written = m_.floats();
            append(written, v_.floats());
            append(written, x_.floats());
            return written;
          },
          8.0 * kUnit, 8.0 * kUnit);
    }
}

}  // namespace
}  // namespace swiftkv::test
