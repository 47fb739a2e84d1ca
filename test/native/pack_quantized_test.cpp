// Quantized weights: error bounds of each scheme, codes of a checkpoint kept as they are, any split into calls.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/pack.h"
#include "backends/cpu/pack_quantized.h"
#include "compare.h"
#include "fixtures.h"

namespace swiftkv::test {
namespace {

constexpr DType kQuantized[] = {DType::fp8_e4m3, DType::int8, DType::int4};
constexpr std::pair<int64_t, int64_t> kSizes[] = {{1, 1},    {64, 64},  {65, 33}, {130, 17},
                                                  {3, 1055}, {63, 256}, {2, 2050}};

// Rows of very different magnitudes, so that a scale of the wrong row or group shows.
std::vector<float> rows_of_many_scales(int64_t n, int64_t k) {
  Rng rng(7);
  std::vector<float> values = random_values(rng, n * k);
  for (int64_t i = 0; i < n * k; ++i)
    values[static_cast<size_t>(i)] *= std::ldexp(1.0f, static_cast<int>(i / k % 9 - 4 + i % k / 32 % 3));
  return values;
}

// Half a step of the scheme: fp8 has 3 bits of mantissa above 2^-6 of its scale, int8 127 steps, int4 8 of a group's.
float largest_error(DType dtype, const float* row, int64_t k, int64_t col) {
  const auto most = [&](int64_t first, int64_t last) {
    float m = 0.0f;
    for (int64_t i = first; i < last; ++i) m = std::max(m, std::fabs(row[i]));
    return m;
  };
  if (dtype == DType::int8) return most(0, k) / 127.0f * 0.5001f;
  if (dtype == DType::fp8_e4m3) return std::max(std::fabs(row[col]) / 16.0f, most(0, k) / 448.0f * 0x1p-10f) * 1.0001f;
  // A value opposite to the extreme is cut to 7 steps: at most one step away. f16 rounds the scale by 2^-11.
  const int64_t first = col / 32 * 32;
  return most(first, std::min(k, first + 32)) / 8.0f * (row[col] == 0.0f ? 0.51f : 1.01f);
}

TEST_CASE("quantized rows come back within half a step of their scheme") {
  for (DType dtype : kQuantized)
    for (const auto& [n, k] : kSizes) {
      INFO(std::string(dtype_name(dtype)), " n ", n, " k ", k);
      const std::vector<float> values = rows_of_many_scales(n, k);
      const Weights w(dtype, Layout::panels, n, k, values);
      const auto bound = [&, kk = k](size_t i) {
        const int64_t row = static_cast<int64_t>(i) / kk;
        return static_cast<double>(largest_error(dtype, values.data() + row * kk, kk, static_cast<int64_t>(i) % kk));
      };
      CHECK(difference(w.values, values, bound) == "");
      std::vector<float> row(static_cast<size_t>(k));
      cpu::read_quantized_row(w.matrix, n - 1, row.data());
      CHECK(std::memcmp(row.data(), w.values.data() + (n - 1) * k, row.size() * 4) == 0);
    }
}

TEST_CASE("int4 uses its whole range: the extreme is exact up to the scale's rounding") {
  for (float extreme : {3.0f, -3.0f}) {
    std::vector<float> values(32, 0.25f);
    values[11] = extreme;
    const Weights w(DType::int4, Layout::panels, 1, 32, values);
    CHECK(std::fabs(w.values[11] - extreme) <= std::fabs(extreme) * 0x1p-11f);
  }
}

TEST_CASE("quantizing does not depend on how rows are split into calls, nor on the source's float type") {
  for (DType dtype : kQuantized)
    for (int64_t k : {40, 37, 64}) {
      const int64_t n = 150;
      std::vector<float> values = rows_of_many_scales(n, k);
      for (float& x : values) x = to_f32(to_bf16(x));
      const Weights whole(dtype, Layout::panels, n, k, values);
      Weights pieces = whole;
      pieces.matrix.data = pieces.memory.data();
      std::memset(pieces.memory.data(), 0, pieces.memory.size());
      std::vector<uint16_t> halves(values.size() + 1);
      for (size_t i = 0; i < values.size(); ++i) halves[i] = to_bf16(values[i]).bits;
      int64_t row = n;
      for (int64_t rows : {70, 1, 63, 16}) {
        row -= rows;
        REQUIRE(cpu::pack({halves.data() + row * k, DType::bf16, rows, row, pieces.matrix}).ok());
      }
      CHECK(bit_difference(pieces.memory.data(), whole.memory.data(), whole.memory.size(), 1) == "");
    }
}

TEST_CASE("rows of zeros, of nothing and of no numbers") {
  for (DType dtype : kQuantized) {
    INFO(std::string(dtype_name(dtype)));
    std::vector<float> values(4 * 64, 0.0f);
    for (size_t i = 0; i < 64; ++i) values[64 + i] = 0x1p-120f;
    for (size_t i = 0; i < 64; ++i) values[128 + i] = 1.0f;
    values[128 + 5] = NAN;
    for (size_t i = 0; i < 64; ++i) values[192 + i] = 1.0f;
    const Weights w(dtype, Layout::panels, 4, 64, values);
    for (size_t i = 0; i < 64; ++i) {
      CHECK(w.values[i] == 0.0f);
      CHECK(std::fabs(w.values[64 + i]) < 0x1p-100f);
      CHECK(std::fabs(w.values[192 + i] - 1.0f) < 1e-3f);
    }
    CHECK(std::isnan(w.values[128 + 5]));  // what is no number does not become one
  }
}

TEST_CASE("fp8 codes of a checkpoint are kept, and their scales come from elsewhere: each row's or one for all") {
  for (const auto& [n, k] : kSizes)
    for (bool repeat : {false, true}) {
      std::vector<uint8_t> codes(static_cast<size_t>(n * k));
      for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i * 37 % 256);
      std::vector<uint16_t> scales(static_cast<size_t>(n));
      for (size_t i = 0; i < scales.size(); ++i) scales[i] = to_bf16(0.5f + static_cast<float>(i)).bits;
      const Bytes memory(cpu::matrix_bytes(DType::fp8_e4m3, Layout::panels, n, k));
      std::memset(memory.data(), 0, memory.size());
      const Matrix m{memory.data(), DType::fp8_e4m3, Layout::panels, n, k};
      // In either order: neither touches what the other wrote.
      const PackParams values{codes.data(), DType::fp8_e4m3, n, 0, m};
      const PackParams factors{scales.data(), DType::bf16, n, 0, m, PackTarget::scales, repeat};
      REQUIRE(cpu::pack(repeat ? values : factors).ok());
      REQUIRE(cpu::pack(repeat ? factors : values).ok());
      std::vector<float> out(codes.size()), expected(codes.size());
      REQUIRE(cpu::unpack(m, out.data()).ok());
      for (int64_t i = 0; i < n * k; ++i)
        expected[static_cast<size_t>(i)] = to_f32(fp8_e4m3{codes[static_cast<size_t>(i)]}) *
                                           to_f32(bf16{scales[static_cast<size_t>(repeat ? 0 : i / k)]});
      CHECK(difference(out, expected, 0.0, 0.0) == "");
    }
}

TEST_CASE("codes and scales fit fp8 matrices only") {
  const std::vector<float> values(64 * 32, 1.0f);
  for (DType dtype : {DType::int8, DType::int4}) {
    const Weights w(dtype, Layout::panels, 64, 32, values);
    CHECK(cpu::pack({values.data(), DType::fp8_e4m3, 1, 0, w.matrix}).code == Code::unsupported);
    CHECK(cpu::pack({values.data(), DType::f32, 1, 0, w.matrix, PackTarget::scales}).code == Code::unsupported);
    CHECK(cpu::pack({values.data(), DType::i32, 1, 0, w.matrix}).code == Code::unsupported);
    CHECK(cpu::pack({values.data(), DType::f32, 1, 64, w.matrix}).code == Code::invalid_argument);
  }
}

}  // namespace
}  // namespace swiftkv::test
