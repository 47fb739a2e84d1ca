// linear with 8 and 4 bit weights: every level against the definition in double, bits across levels and chunks.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "compare.h"
#include "fixtures.h"
#include "quantized_linear.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

// Groups of very different magnitudes.
std::vector<float> uneven_values(Rng& rng, int64_t count, int64_t k) {
  std::vector<float> values = random_values(rng, count);
  for (int64_t i = 0; i < count; ++i)
    values[static_cast<size_t>(i)] *= std::ldexp(1.0f, static_cast<int>(i % k / 32 % 5 - 2 + i / k % 3));
  return values;
}

struct Problem : QuantizedLinear {
  Problem(const QuantScheme& s, const ProductShape& dims, uint64_t seed) : Problem(s, dims, Rng(seed)) {}

 private:
  Problem(const QuantScheme& s, const ProductShape& dims, Rng rng)
      : QuantizedLinear(s, dims, uneven_values(rng, dims.rows * dims.k, dims.k),
                        uneven_values(rng, dims.n * dims.k, dims.k), random_values(rng, dims.n)) {}
};

// What the rows are worth after they were quantized, exactly.
std::vector<double> quantized_activations(const Problem& p) {
  const std::vector<float> a = p.a.floats();
  std::vector<double> x(a.begin(), a.end());
  const int64_t k = p.shape.k;
  const bool groups = p.scheme.weights != DType::fp8_e4m3;
  if (!groups && !p.scheme.fp8_activations) return x;
  for (int64_t row = 0; row < p.shape.rows; ++row)
    for (int64_t first = 0; first < k; first += groups ? 32 : k) {
      const int64_t last = groups ? std::min(k, first + 32) : k;
      float most = 0.0f;
      for (int64_t i = first; i < last; ++i) most = std::max(most, std::fabs(a[static_cast<size_t>(row * k + i)]));
      const float fp8 = fp8_scale(most);
      for (int64_t i = first; i < last; ++i) {
        const auto at = static_cast<size_t>(row * k + i);
        if (groups)
          x[at] = most == 0.0f ? 0.0
                               : std::nearbyint(static_cast<double>(a[at] * (127.0f / most))) *
                                     static_cast<double>(most / 127.0f);
        else
          x[at] = static_cast<double>(to_f32(to_fp8_e4m3(a[at] / fp8))) * static_cast<double>(fp8);
      }
    }
  return x;
}

struct Exact {
  std::vector<float> y;
  std::vector<double> magnitude;
};

Exact exact(const Problem& p) {
  Exact e;
  const std::vector<double> x = quantized_activations(p);
  for (int64_t i = 0; i < p.shape.rows; ++i)
    for (int64_t n = 0; n < p.shape.n; ++n) {
      double sum = static_cast<double>(p.bias.f32()[n]), magnitude = std::fabs(sum);
      for (int64_t k = 0; k < p.shape.k; ++k) {
        const double term = x[static_cast<size_t>(i * p.shape.k + k)] *
                            static_cast<double>(p.w.values[static_cast<size_t>(n * p.shape.k + k)]);
        sum += term;
        magnitude += std::fabs(term);
      }
      e.y.push_back(static_cast<float>(sum));
      e.magnitude.push_back(magnitude + std::fabs(sum));
    }
  return e;
}

TEST_CASE("linear with quantized weights equals its definition in double at every level") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const ProductShape& shape : kProductShapes)
      for (const QuantScheme& scheme : kQuantSchemes) {
        INFO("rows ", shape.rows, " n ", shape.n, " k ", shape.k, " ", text(scheme));
        Problem p(scheme, shape, 1);
        const Exact e = exact(p);
        // Additions in f32 walk sqrt(steps) roundings of at most the magnitude each (a step is an element, or a group
        // of exact integers); scales and their products round a few times more.
        const double steps = 4.0 * std::sqrt(static_cast<double>(shape.k + 2)) + 4.0;
        const auto bound = [&](size_t i) { return steps * kUnit * e.magnitude[i]; };
        CHECK(difference(p.run(device), e.y, bound) == "");
      }
  });
}

TEST_CASE("linear with integer weights has the same bits at every level") {
  for (const ProductShape& shape : {ProductShape{7, 130, 257}, ProductShape{33, 64, 512}, ProductShape{1, 65, 31}})
    for (const QuantScheme& scheme : kQuantSchemes) {
      if (scheme.weights == DType::fp8_e4m3) continue;
      Problem p(scheme, shape, 2);
      const std::vector<float> expected = p.run(LevelDevice(cpu::CpuLevel::scalar));
      for_each_level([&](cpu::CpuLevel level) {
        INFO(text(scheme));
        CHECK(bit_difference(p.run(LevelDevice(level)), expected) == "");
      });
    }
}

TEST_CASE("linear with quantized weights: a row's bits do not depend on its neighbours, on chunks or on threads") {
  for_each_level([](cpu::CpuLevel level) {
    for (const ProductShape& shape : {ProductShape{37, 130, 257}, ProductShape{9, 65, 1031}, ProductShape{70, 64, 64}})
      for (const QuantScheme& scheme : kQuantSchemes) {
        INFO(text(scheme), " k ", shape.k);
        Problem p(scheme, shape, 3);
        const std::vector<float> whole = p.run(LevelDevice(level));
        for_each_chunking(
            level, shape.rows,
            [&](const LevelDevice& device, int64_t first, int64_t count) {
              const LinearParams params = p.rows(first, count);
              CHECK(device.run(OpKind::linear, &params).ok());
            },
            [&] { CHECK(bit_difference(p.y.floats(), whole) == ""); });
      }
  });
}

TEST_CASE("linear with quantized weights: NaN and infinity in one row stay in that row") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (const QuantScheme& scheme : kQuantSchemes)
      for (float bad : {NAN, INFINITY}) {
        if (scheme.fp8_activations && std::isinf(bad)) continue;  // the format saturates
        INFO(text(scheme));
        Problem p(scheme, {20, 66, 64}, 5);
        const std::vector<float> clean = p.run(device);
        std::vector<float> a = p.a.floats();
        a[7 * 64 + 40] = bad;
        p.a = Tensor(scheme.activations, a);
        const std::vector<float> dirty = p.run(device);
        for (size_t i = 0; i < clean.size(); ++i)
          if (i / 66 == 7)
            CHECK(!std::isfinite(dirty[i]));
          else
            REQUIRE(dirty[i] == clean[i]);
      }
  });
}

TEST_CASE("linear with quantized weights is as near to the float product as its bits allow") {
  const LevelDevice device(cpu::CpuLevel::scalar, 2);
  const int64_t rows = 4, n = 128, k = 1024;
  Rng rng(9);
  const std::vector<float> x = random_values(rng, rows * k), weights = random_values(rng, n * k);
  std::vector<double> product(static_cast<size_t>(rows * n), 0.0);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < n; ++j)
      for (int64_t c = 0; c < k; ++c)
        product[static_cast<size_t>(i * n + j)] += static_cast<double>(x[static_cast<size_t>(i * k + c)]) *
                                                   static_cast<double>(weights[static_cast<size_t>(j * k + c)]);
  // Errors of a uniform variable in steps of its range: 2/254 and 2/15 of it over sqrt(12), fp8 2^-4 over sqrt(3) of a
  // value; relative to the values' deviation, and half as much again of room.
  for (const auto& [dtype, bound] : {std::pair{DType::int8, 0.011}, {DType::fp8_e4m3, 0.04}, {DType::int4, 0.11}}) {
    const Tensor a(DType::f32, x), y(DType::f32, rows * n);
    const Weights w(dtype, Layout::panels, n, k, weights);
    const LinearParams p{rows, a.activation(), w.matrix, nullptr, false, y.activation()};
    REQUIRE(device.run(OpKind::linear, &p).ok());
    double error = 0.0, size = 0.0;
    const std::vector<float> out = y.floats();
    for (size_t i = 0; i < out.size(); ++i) {
      error += std::pow(static_cast<double>(out[i]) - product[i], 2);
      size += product[i] * product[i];
    }
    INFO(std::string(dtype_name(dtype)), " relative error ", std::sqrt(error / size));
    CHECK(std::sqrt(error / size) < bound);
    CHECK(std::sqrt(error / size) > bound / 20);
  }
}

}  // namespace
}  // namespace swiftkv::test
