// linear: the reference against double sums, every level against the reference, and row invariance.
#include <doctest/doctest.h>

#include <cmath>

#include "compare.h"
#include "fixtures.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

struct Problem {
  Problem(DType dtype, Layout layout, DType y_type, bool acc, const ProductShape& s, uint64_t seed)
      : rng(seed),
        shape(s),
        a(dtype, random_values(rng, s.rows * s.k)),
        w(dtype, layout, s.n, s.k, random_values(rng, s.n * s.k)),
        bias(DType::f32, random_values(rng, s.n)),
        before(y_type, random_values(rng, s.rows * s.n)),
        y(before),
        accumulate(acc) {}

  LinearParams rows(int64_t first, int64_t count) const {
    return {count,      a.activation_at(first * shape.k), w.matrix, bias.f32(),
            accumulate, y.activation_at(first * shape.n)};
  }

  std::vector<float> run(const LevelDevice& device) {
    y = before;
    const LinearParams p = rows(0, shape.rows);
    CHECK(device.run(OpKind::linear, &p).ok());
    return y.floats();
  }

  Rng rng;
  ProductShape shape;
  Tensor a;
  Weights w;
  Tensor bias, before, y;
  bool accumulate;
};

struct Exact {
  std::vector<float> y;
  std::vector<double> magnitude;  // sum of |terms|: what rounding errors are proportional to
};

Exact exact(const Problem& p) {
  Exact e;
  const std::vector<float> a = p.a.floats(), before = p.before.floats();
  for (int64_t i = 0; i < p.shape.rows; ++i)
    for (int64_t n = 0; n < p.shape.n; ++n) {
      double sum = static_cast<double>(p.bias.f32()[n]), magnitude = std::fabs(sum);
      if (p.accumulate) sum += static_cast<double>(before[static_cast<size_t>(i * p.shape.n + n)]);
      for (int64_t k = 0; k < p.shape.k; ++k) {
        const double term = static_cast<double>(a[static_cast<size_t>(i * p.shape.k + k)]) *
                            static_cast<double>(p.w.values[static_cast<size_t>(n * p.shape.k + k)]);
        sum += term;
        magnitude += std::fabs(term);
      }
      e.y.push_back(static_cast<float>(sum));
      e.magnitude.push_back(magnitude + std::fabs(sum));
    }
  return e;
}

// k additions in f32 walk sqrt(k) roundings of at most the magnitude each; a bf16 output is rounded once more.
Tolerance product_tolerance(const Exact& e, const Problem& p) {
  const double steps = 4.0 * std::sqrt(static_cast<double>(p.shape.k + 2));
  const double output = p.y.dtype == DType::bf16 ? kUnitBf16 : kUnit;
  return [&e, steps, output](size_t i) {
    return steps * kUnit * e.magnitude[i] + 1.01 * output * std::fabs(static_cast<double>(e.y[i]));
  };
}

struct Types {
  DType in, out;
  bool accumulate;
};
const Types kTypes[] = {{DType::f32, DType::f32, false},
                        {DType::f32, DType::f32, true},
                        {DType::bf16, DType::bf16, false},
                        {DType::bf16, DType::f32, false},
                        {DType::bf16, DType::f32, true}};

TEST_CASE("linear equals double sums at every level") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const ProductShape& shape : kProductShapes)
      for (const Types& t : kTypes) {
        INFO("rows ", shape.rows, " n ", shape.n, " k ", shape.k, " ", text(dtype_name(t.in)), " -> ",
             text(dtype_name(t.out)), " accumulate ", t.accumulate);
        Problem p(t.in, Layout::panels, t.out, t.accumulate, shape, 1);
        const Exact e = exact(p);
        CHECK(difference(p.run(device), e.y, product_tolerance(e, p)) == "");
      }
  });
}

TEST_CASE("linear of the reference gives the same bits for row-major weights") {
  const LevelDevice device(cpu::CpuLevel::scalar);
  for (const ProductShape& shape : kProductShapes)
    for (DType dtype : {DType::f32, DType::bf16}) {
      Problem panels(dtype, Layout::panels, DType::f32, false, shape, 2);
      Problem row_major(dtype, Layout::row_major, DType::f32, false, shape, 2);
      CHECK(bit_difference(row_major.run(device), panels.run(device)) == "");
    }
}

TEST_CASE("linear without a bias adds none") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    Problem p(DType::f32, Layout::panels, DType::f32, false, {5, 70, 40}, 3);
    const std::vector<float> with = p.run(device);
    LinearParams params = p.rows(0, 5);
    params.bias = nullptr;
    CHECK(device.run(OpKind::linear, &params).ok());
    std::vector<float> sum = p.y.floats();
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += p.bias.f32()[i % 70];
    CHECK(difference(sum, with, 40 * kUnit * 8, 0.0) == "");
  });
}

TEST_CASE("linear: a row's bits do not depend on its neighbours, on chunks or on threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (const ProductShape& shape : {ProductShape{37, 130, 257}, ProductShape{70, 64, 64}, ProductShape{9, 65, 1031}})
      for (const Types& t : kTypes) {
        INFO(text(dtype_name(t.in)), " -> ", text(dtype_name(t.out)), " accumulate ", t.accumulate, " k ", shape.k);
        Problem p(t.in, Layout::panels, t.out, t.accumulate, shape, 4);
        const std::vector<float> whole = p.run(LevelDevice(level));
        p.y = p.before;
        for_each_chunking(
            level, shape.rows,
            [&](const LevelDevice& device, int64_t first, int64_t count) {
              const LinearParams params = p.rows(first, count);
              CHECK(device.run(OpKind::linear, &params).ok());
            },
            [&] {
              CHECK(bit_difference(p.y.floats(), whole) == "");
              p.y = p.before;
            });
      }
  });
}

TEST_CASE("linear: NaN in one row stays in that row") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (DType dtype : {DType::f32, DType::bf16}) {
      Problem p(dtype, Layout::panels, DType::f32, false, {20, 66, 64}, 5);
      const std::vector<float> clean = p.run(device);
      std::vector<float> a = p.a.floats();
      for (size_t k = 0; k < 64; ++k) a[7 * 64 + k] = NAN;
      p.a = Tensor(dtype, a);
      const std::vector<float> dirty = p.run(device);
      for (size_t i = 0; i < clean.size(); ++i)
        if (i / 66 == 7)
          CHECK(std::isnan(dirty[i]));
        else
          REQUIRE(dirty[i] == clean[i]);
    }
  });
}

}  // namespace
}  // namespace swiftkv::test
