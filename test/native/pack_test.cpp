// Packing: layout by definition, any row offset, padding, unaligned sources, conversions.
#include <doctest/doctest.h>

#include <cstring>

#include "backends/cpu/pack.h"
#include "compare.h"
#include "fixtures.h"

namespace swiftkv::test {
namespace {

// Elements of `dtype` holding the values, at an odd address.
std::vector<std::byte> unaligned_source(DType dtype, const std::vector<float>& values) {
  const auto size = static_cast<size_t>(dtype_bytes(dtype));
  std::vector<std::byte> bytes(values.size() * size + 1);
  for (size_t i = 0; i < values.size(); ++i) {
    const bf16 b = to_bf16(values[i]);
    const f16 h = to_f16(values[i]);
    const void* from = &values[i];
    if (dtype == DType::bf16) from = &b;
    if (dtype == DType::f16) from = &h;
    std::memcpy(bytes.data() + 1 + i * size, from, size);
  }
  return bytes;
}

float rounded(DType dtype, float x) {
  if (dtype == DType::bf16) return to_f32(to_bf16(x));
  if (dtype == DType::f16) return to_f32(to_f16(x));
  return x;
}

TEST_CASE("pack puts every element where the layout says, and zero everywhere else") {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {64, 64}, {65, 33}, {130, 17}, {63, 256}, {200, 31}})
    for (DType src : {DType::f32, DType::bf16, DType::f16})
      for (DType dst : {DType::f32, DType::bf16})
        for (Layout layout : {Layout::row_major, Layout::panels}) {
          INFO("n ", n, " k ", k, " ", std::string(dtype_name(src)), " -> ", std::string(dtype_name(dst)), " panels ",
               layout == Layout::panels);
          Rng rng(1);
          const std::vector<float> values = random_values(rng, n * k);
          const std::vector<std::byte> source = unaligned_source(src, values);
          const Bytes memory(cpu::matrix_bytes(dst, layout, n, k));
          std::memset(memory.data(), 0, memory.size());
          const Matrix m{memory.data(), dst, layout, n, k};
          REQUIRE(cpu::pack({source.data() + 1, src, n, 0, m}).ok());

          std::vector<float> expected(memory.size() / static_cast<size_t>(dtype_bytes(dst)), 0.0f);
          for (int64_t row = 0; row < n; ++row)
            for (int64_t col = 0; col < k; ++col) {
              int64_t at = row * k + col;
              if (layout == Layout::panels)
                at = dst == DType::f32 ? (row / 64 * k + col) * 64 + row % 64
                                       : ((row / 64 * ((k + 1) / 2) + col / 2) * 64 + row % 64) * 2 + col % 2;
              expected[static_cast<size_t>(at)] =
                  rounded(dst, rounded(src, values[static_cast<size_t>(row * k + col)]));
            }
          Tensor stored(dst, static_cast<int64_t>(expected.size()));
          stored.memory = memory;
          CHECK(bit_difference(stored.floats(), expected) == "");
          std::vector<float> back(values.size());
          REQUIRE(cpu::unpack(m, back.data()).ok());
          for (size_t i = 0; i < back.size(); ++i) REQUIRE(back[i] == rounded(dst, rounded(src, values[i])));
        }
}

TEST_CASE("pack of several matrices at any row offset equals one pack of their concatenation") {
  for (DType dst : {DType::f32, DType::bf16})
    for (Layout layout : {Layout::row_major, Layout::panels})
      for (int64_t k : {40, 37}) {
        Rng rng(2);
        const std::vector<int64_t> parts{80, 16, 16, 1, 3, 63, 70};  // ends at 249
        const int64_t n = 249;
        const std::vector<float> values = random_values(rng, n * k);
        const Weights whole(dst, layout, n, k, values);
        Weights pieces = whole;
        pieces.matrix.data = pieces.memory.data();
        std::memset(pieces.memory.data(), 0, pieces.memory.size());
        int64_t row = n;
        for (int64_t rows : parts) {  // backwards: no piece may disturb what is there
          row -= rows;
          REQUIRE(cpu::pack({values.data() + row * k, DType::f32, rows, row, pieces.matrix}).ok());
        }
        CHECK(bit_difference(pieces.memory.data(), whole.memory.data(), whole.memory.size(), 1) == "");
      }
}

TEST_CASE("pack refuses rows outside the matrix and types it does not know") {
  const Weights w(DType::f32, Layout::panels, 10, 4, std::vector<float>(40, 0.0f));
  const std::vector<float> values(40, 0.0f);
  CHECK(cpu::pack({values.data(), DType::f32, 3, 8, w.matrix}).code == Code::invalid_argument);
  CHECK(cpu::pack({values.data(), DType::f32, 1, -1, w.matrix}).code == Code::invalid_argument);
  CHECK(cpu::pack({values.data(), DType::f32, 1, INT64_MAX, w.matrix}).code == Code::invalid_argument);
  CHECK(cpu::pack({values.data(), DType::i32, 1, 0, w.matrix}).code == Code::unsupported);
  Matrix integers = w.matrix;
  integers.dtype = DType::i32;
  CHECK(cpu::pack({values.data(), DType::f32, 1, 0, integers}).code == Code::unsupported);
  CHECK(cpu::pack({values.data(), DType::fp8_e4m3, 1, 0, w.matrix}).code == Code::unsupported);
  CHECK(cpu::pack({values.data(), DType::f32, 1, 0, w.matrix, PackTarget::scales}).code == Code::unsupported);
  CHECK(cpu::pack({values.data(), DType::f32, 0, 10, w.matrix}).ok());
}

TEST_CASE("matrix_bytes counts whole panels and whole pairs") {
  CHECK(cpu::matrix_bytes(DType::bf16, Layout::panels, 65, 3) == 2 * 64 * 4 * 2);
  CHECK(cpu::matrix_bytes(DType::f32, Layout::panels, 64, 3) == 64 * 3 * 4);
  CHECK(cpu::matrix_bytes(DType::bf16, Layout::row_major, 65, 3) == 65 * 3 * 2);
  CHECK(cpu::matrix_bytes(DType::fp8_e4m3, Layout::panels, 65, 3) == 2 * 64 * 4 + 128 * 4);
  CHECK(cpu::matrix_bytes(DType::int8, Layout::panels, 1, 5) == 64 * 8 + 64 * 4);
  CHECK(cpu::matrix_bytes(DType::int4, Layout::panels, 64, 33) == 2 * (64 * 16 + 64 * 2));
  CHECK(cpu::matrix_bytes(DType::int8, Layout::row_major, 64, 33) == 0);
  CHECK(cpu::matrix_bytes(DType::i32, Layout::panels, 64, 33) == 0);
}

}  // namespace
}  // namespace swiftkv::test
