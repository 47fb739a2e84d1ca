// linear on the host's executor: sums in double, the reference's bits for integers, row invariance over all tiles.
#include <doctest/doctest.h>

#include <cmath>
#include <utility>

#include "backends/cpu/scalar/ops.h"
#include "chunks.h"
#include "compare.h"
#include "device_weights.h"
#include "reference.h"

namespace swiftkv::test {
namespace {

struct Types {
  DType a, w, y;
  bool accumulate = false, fp8_activations = false;
};

const Types kFloatTypes[] = {
    {DType::f32, DType::f32, DType::f32},
    {DType::f32, DType::f32, DType::f32, true},
    {DType::f32, DType::f32, DType::bf16},
    {DType::bf16, DType::bf16, DType::bf16},
    {DType::bf16, DType::bf16, DType::f32},
    {DType::bf16, DType::bf16, DType::f32, true},
    {DType::bf16, DType::fp8_e4m3, DType::bf16},
    {DType::bf16, DType::fp8_e4m3, DType::f32, true},
    {DType::f32, DType::fp8_e4m3, DType::f32},
    {DType::bf16, DType::fp8_e4m3, DType::f32, false, true},
    {DType::f32, DType::fp8_e4m3, DType::f32, true, true},
};
const Types kIntegerTypes[] = {
    {DType::f32, DType::int8, DType::f32},
    {DType::bf16, DType::int8, DType::f32, true},
    {DType::f32, DType::int4, DType::f32, true},
    {DType::bf16, DType::int4, DType::bf16},
};

std::string text(const Types& t) {
  return std::string(dtype_name(t.a)) + " by " + dtype_name(t.w) + " to " + dtype_name(t.y) +
         (t.accumulate ? " added" : "") + (t.fp8_activations ? " in fp8" : "");
}

struct Problem {
  Problem(const Types& t, const ProductShape& s, uint64_t seed)
      : rng(seed),
        types(t),
        shape(s),
        a(t.a, random_values(rng, s.rows * s.k)),
        w(t.w, Layout::panels, s.n, s.k, random_values(rng, s.n * s.k)),
        device_w(w),
        bias(DType::f32, random_values(rng, s.n)),
        before(t.y, random_values(rng, s.rows * s.n)),
        y(before) {}

  LinearParams rows(int64_t first, int64_t count, bool device = true) const {
    return {count,
            a.activation_at(first * shape.k),
            device ? device_w.matrix() : w.matrix,
            bias.f32(),
            types.accumulate,
            y.activation_at(first * shape.n),
            types.fp8_activations};
  }

  std::vector<float> run(const SimtDevice& device) {
    y = before;
    CHECK(why(device.run(&cuda::linear, rows(0, shape.rows), &cuda::linear_scratch)) == "");
    return y.floats();
  }

  std::vector<float> reference() {
    y = before;
    run_reference(&cpu::scalar::linear, rows(0, shape.rows, false));
    return y.floats();
  }

  Rng rng;
  Types types;
  ProductShape shape;
  Tensor a;
  Weights w;
  DeviceWeights device_w;
  Tensor bias, before, y;
};

// Allowed distance to the scalar level: both add k products in f32, which walk sqrt(k) roundings of the sum of
// magnitudes each; the output is rounded once more.
Tolerance product_tolerance(const Problem& p, const std::vector<float>& expected) {
  const std::vector<float> a = p.a.floats(), before = p.before.floats();
  std::vector<double> allowed;
  const double steps = 8.0 * std::sqrt(static_cast<double>(p.shape.k + 4));
  const double output = p.types.y == DType::bf16 ? 2.01 * kUnitBf16 : kUnit;
  for (int64_t i = 0; i < p.shape.rows; ++i)
    for (int64_t n = 0; n < p.shape.n; ++n) {
      double magnitude = std::fabs(static_cast<double>(p.bias.f32()[n]));
      for (int64_t k = 0; k < p.shape.k; ++k)
        magnitude += std::fabs(static_cast<double>(a[static_cast<size_t>(i * p.shape.k + k)]) *
                               static_cast<double>(p.w.values[static_cast<size_t>(n * p.shape.k + k)]));
      const auto at = static_cast<size_t>(i * p.shape.n + n);
      allowed.push_back(steps * kUnit * (magnitude + std::fabs(static_cast<double>(before[at]))) +
                        output * std::fabs(static_cast<double>(expected[at])));
    }
  return [allowed](size_t i) { return allowed[i]; };
}

// Empty, single, edges of tiles, odd k and n, more rows than a tile.
const ProductShape kShapes[] = {{0, 64, 64},  {1, 1, 1},     {1, 64, 64},    {15, 33, 17},  {16, 32, 65},
                                {17, 64, 72}, {33, 65, 136}, {130, 131, 63}, {3, 130, 520}, {65, 128, 257}};

TEST_CASE("linear equals the scalar level's sums, with every tile") {
  for (const ProductShape& shape : kShapes)
    for (const Types& types : kFloatTypes) {
      INFO("rows ", shape.rows, " n ", shape.n, " k ", shape.k, " ", text(types));
      Problem p(types, shape, 1);
      const std::vector<float> expected = p.reference();
      for (const int num_sms : {1, 1 << 20})
        CHECK(difference(p.run(SimtDevice(chip_of(num_sms))), expected, product_tolerance(p, expected)) == "");
    }
}

TEST_CASE("linear with integer weights has the scalar level's bits") {
  for (const ProductShape& shape : kShapes)
    for (const Types& types : kIntegerTypes) {
      INFO("rows ", shape.rows, " n ", shape.n, " k ", shape.k, " ", text(types));
      Problem p(types, shape, 2);
      std::vector<float> a = p.a.floats();
      for (size_t i = 0; i < a.size() && i < 32; ++i) a[i] = 0.0f;  // a group of zeros
      p.a = Tensor(types.a, a);
      CHECK(bit_difference(p.run(SimtDevice()), p.reference()) == "");
    }
}

TEST_CASE("linear: the bits of a row are the same in any call, with any tile") {
  for (const ProductShape& shape : {ProductShape{70, 130, 100}, ProductShape{130, 33, 65}}) {
    const auto check_types = [&](const Types& types) {
      INFO("rows ", shape.rows, " n ", shape.n, " k ", shape.k, " ", text(types));
      Problem p(types, shape, 3);
      const std::vector<float> whole = p.run(SimtDevice(chip_of(1)));
      p.y = p.before;
      for_each_row_chunking(
          shape.rows,
          [&](const SimtDevice& device, int64_t first, int64_t count) {
            CHECK(why(device.run(&cuda::linear, p.rows(first, count), &cuda::linear_scratch)) == "");
          },
          [&] {
            CHECK(bit_difference(p.y.floats(), whole) == "");
            p.y = p.before;
          });
    };
    for (const Types& types : kFloatTypes) check_types(types);
    for (const Types& types : kIntegerTypes) check_types(types);
  }
}

TEST_CASE("linear has the same bits under every schedule") {
  for (const Types& types : {kFloatTypes[1], kFloatTypes[3], kFloatTypes[6], kFloatTypes[8], kFloatTypes[9],
                             kIntegerTypes[0], kIntegerTypes[3]})
    for (const auto& [rows, num_sms] : {std::pair<int64_t, int>{3, 1}, {20, 1}, {18, 1 << 20}, {66, 1}}) {
      Problem p(types, {rows, 34, rows == 3 ? 577 : 193}, 4);
      const SimtDevice device(chip_of(num_sms));
      const std::vector<float> first = p.run(device);
      INFO("rows ", p.shape.rows, " ", text(types));
      for_each_schedule([&] { CHECK(bit_difference(p.run(device), first) == ""); });
    }
}

// Each product with each tile, as small as it can be: a second step along k wraps no ring, a ninth wraps them all.
TEST_CASE("linear keeps its threads in order [race]") {
  const simt::ScopedSchedule scoped({simt::Order::random, simt::Landing::random, 3});
  for (const Types& types : {kFloatTypes[1], kFloatTypes[3], kFloatTypes[6], kFloatTypes[8], kFloatTypes[10],
                             kIntegerTypes[0], kIntegerTypes[3]})
    for (const ProductShape& shape : {ProductShape{3, 33, 577}, ProductShape{18, 34, 257}, ProductShape{65, 36, 193}}) {
      INFO("rows ", shape.rows, " ", text(types));
      Problem p(types, shape, 7);
      const std::vector<float> expected = p.reference();
      const std::vector<float> actual = p.run(SimtDevice(chip_of(1)));
      CHECK(difference(actual, expected, product_tolerance(p, expected)) == "");
    }
}

TEST_CASE("linear: NaN in a row or an output stays there") {
  for (const Types& types : {kFloatTypes[0], kFloatTypes[4], kFloatTypes[8], kFloatTypes[9], kIntegerTypes[0]})
    for (const int64_t rows : {12, 40}) {
      INFO("rows ", rows, " ", text(types));
      Problem p(types, {rows, 35, 64}, 5);
      const std::vector<float> clean = p.run(SimtDevice());
      std::vector<float> a = p.a.floats();
      for (size_t k = 0; k < 64; ++k) a[7 * 64 + k] = NAN;
      p.a = Tensor(types.a, a);
      p.bias.f32()[3] = NAN;
      const std::vector<float> dirty = p.run(SimtDevice());
      for (size_t i = 0; i < clean.size(); ++i)
        if (i / 35 == 7 || i % 35 == 3)
          CHECK(std::isnan(dirty[i]));
        else
          REQUIRE(dirty[i] == clean[i]);
    }
}

TEST_CASE("linear works without a bias and without ldmatrix meeting a bank twice") {
  for (const Types& types : {kFloatTypes[4], kFloatTypes[6]})
    for (const int64_t rows : {16, 64, 128})
      for (const int num_sms : {1, 1 << 20}) {
        INFO("rows ", rows, " multiprocessors ", num_sms);
        Problem p(types, {rows, 128, 128}, 6);
        for (int64_t n = 0; n < 128; ++n) p.bias.f32()[n] = 0.0f;
        const SimtDevice device(chip_of(num_sms));
        const std::vector<float> zero_bias = p.run(device);
        LinearParams params = p.rows(0, rows);
        params.bias = nullptr;
        p.y = p.before;
        params.y = p.y.activation();
        simt::reset_statistics();
        CHECK(why(device.run(&cuda::linear, params, &cuda::linear_scratch)) == "");
        CHECK(p.y.floats() == zero_bias);
        CHECK(simt::statistics().mma > 0);
        CHECK(simt::statistics().ldmatrix_bank_conflicts == 0);
      }
}

}  // namespace
}  // namespace swiftkv::test
