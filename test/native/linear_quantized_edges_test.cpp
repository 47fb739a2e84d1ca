// linear with quantized weights where something is special: every code, the seams of blocked loops, odd ends of k, rows
// that are not finite, zero or tiny.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "backends/cpu/pack.h"
#include "compare.h"
#include "fixtures.h"
#include "quantized_linear.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

struct Problem : QuantizedLinear {
  Problem(const QuantScheme& s, const ProductShape& dims, uint64_t seed) : Problem(s, dims, Rng(seed)) {}

 private:
  Problem(const QuantScheme& s, const ProductShape& dims, Rng rng)
      : QuantizedLinear(s, dims, random_values(rng, dims.rows * dims.k), random_values(rng, dims.n * dims.k),
                        random_values(rng, dims.n)) {}
};

TEST_CASE(
    "linear: every code of fp8 is worth what dtype.h says, in either place of a pair and for any number of rows") {
  std::vector<uint8_t> codes;
  for (int i = 0; i < 256; ++i)
    for (int place = 0; place < 3; ++place) codes.push_back(static_cast<uint8_t>(i));  // k = 3: row i is code i
  const Bytes memory(cpu::matrix_bytes(DType::fp8_e4m3, Layout::panels, 256, 3));
  std::memset(memory.data(), 0, memory.size());
  const Matrix w{memory.data(), DType::fp8_e4m3, Layout::panels, 256, 3};
  REQUIRE(cpu::pack({codes.data(), DType::fp8_e4m3, 256, 0, w}).ok());
  const float one = 1.0f;
  for (int64_t row = 0; row < 256; ++row) REQUIRE(cpu::pack({&one, DType::f32, 1, row, w, PackTarget::scales}).ok());
  for_each_level([&](cpu::CpuLevel level) {
    for (DType dtype : {DType::bf16, DType::f32})
      for (int64_t rows : {1, 9})
        for (size_t place : {0, 1, 2}) {
          std::vector<float> a(static_cast<size_t>(rows * 3), 0.0f);
          for (size_t r = 0; r < static_cast<size_t>(rows); ++r) a[r * 3 + place] = 1.0f;
          const Tensor x(dtype, a), y(DType::f32, rows * 256);
          const LinearParams p{rows, x.activation(), w, nullptr, false, y.activation()};
          CHECK(LevelDevice(level).run(OpKind::linear, &p).ok());
          const std::vector<float> got = y.floats();
          for (size_t i = 0; i < got.size(); ++i) {
            const float expected = to_f32(fp8_e4m3{static_cast<uint8_t>(i % 256)});
            INFO("code ", i % 256, " rows ", rows, " place ", place, " ", std::string(dtype_name(dtype)));
            // A NaN code makes every sum NaN that it is part of, also times 0.
            REQUIRE((std::isnan(expected) ? std::isnan(got[i]) : got[i] == expected));
          }
        }
  });
}

TEST_CASE("linear with quantized weights: the seams between passes over k lose and repeat nothing") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const QuantScheme& kind : kQuantSchemes)
      for (int64_t k : {1, 33, 127, 128, 129, 255, 257, 512, 513, 1025, 2049, 2080, 4097})
        for (int64_t rows : {1, 7, 49, 200}) {
          if (level == cpu::CpuLevel::scalar && (rows > 7 || k > 2049)) continue;  // it has no seams
          if (k > 2080 && rows == 49) continue;
          INFO("k ", k, " rows ", rows, " ", text(kind));
          // Ones are a code times a scale up to rounding: the sum is k, within a few roundings of each term.
          const Tensor a(kind.activations, std::vector<float>(static_cast<size_t>(rows * k), 1.0f));
          const Weights w(kind.weights, Layout::panels, 65, k, std::vector<float>(static_cast<size_t>(65 * k), 1.0f));
          const Tensor y(DType::f32, rows * 65);
          const LinearParams p{rows, a.activation(), w.matrix, nullptr, false, y.activation(), kind.fp8_activations};
          CHECK(device.run(OpKind::linear, &p).ok());
          const double unit = kind.weights == DType::int4 ? 0x1p-11 : 8 * kUnit;  // f16 scales
          CHECK(difference(y.floats(), std::vector<float>(static_cast<size_t>(rows * 65), static_cast<float>(k)), 0.0,
                           unit) == "");
        }
  });
}

TEST_CASE("linear with quantized weights: rows alone and among hundreds have the same bits at odd ends of k") {
  for_each_level([](cpu::CpuLevel level) {
    for (const QuantScheme& kind : kQuantSchemes)
      for (int64_t k : {1, 33, 130, 2083}) {
        if (level == cpu::CpuLevel::scalar && k > 130) continue;
        INFO("k ", k, " ", text(kind));
        Problem p(kind, {203, 70, k}, 1);
        const std::vector<float> whole = p.run(LevelDevice(level, 2));
        for (int64_t chunk : {1, 3, 6, 7, 48, 193}) {
          const LevelDevice device(level);
          for (int64_t row = 0; row < 203; row += chunk) {
            const LinearParams part = p.rows(row, std::min(chunk, 203 - row));
            CHECK(device.run(OpKind::linear, &part).ok());
          }
          CHECK(bit_difference(p.y.floats(), whole) == "");
        }
      }
  });
}

TEST_CASE("linear with quantized weights: NaN and infinity in the last element of a row stay in that row") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const QuantScheme& kind : kQuantSchemes)
      for (float bad : {NAN, INFINITY, -INFINITY}) {
        INFO(text(kind), " value ", bad);
        Problem p(kind, {20, 66, 70}, 5);
        const std::vector<float> clean = p.run(device);
        std::vector<float> a = p.a.floats();
        a[7 * 70 + 69] = bad;
        p.a = Tensor(kind.activations, a);
        const std::vector<float> dirty = p.run(device);
        for (size_t i = 0; i < clean.size(); ++i)
          if (i / 66 == 7)
            CHECK(!std::isfinite(dirty[i]));
          else
            REQUIRE(dirty[i] == clean[i]);
      }
  });
}

TEST_CASE("linear with quantized weights: zero and tiny rows divide by nothing") {
  for_each_level([](cpu::CpuLevel level) {
    for (const QuantScheme& kind : kQuantSchemes)
      for (float value : {0.0f, -0.0f, 0x1p-110f, 0x1p-120f}) {
        INFO(text(kind), " value ", value);
        Problem p(kind, {8, 66, 70}, 6);
        p.a = Tensor(kind.activations, std::vector<float>(8 * 70, value));
        const std::vector<float> y = p.run(LevelDevice(level));
        for (size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == p.bias.f32()[i % 66]);
      }
  });
}

}  // namespace
}  // namespace swiftkv::test
