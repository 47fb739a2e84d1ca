// embed, gather_rows, copy_rows, quantize_rows: exact at every level, whatever the width.
#include <doctest/doctest.h>

#include <cmath>

#include "compare.h"
#include "fixtures.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

TEST_CASE("embed widens rows of row-major and panel tables exactly") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (int64_t d : kWidths)
      for (DType dtype : {DType::f32, DType::bf16})
        for (Layout layout : table_layouts()) {
          INFO("d ", d, " table ", text(dtype_name(dtype)), " panels ", layout == Layout::panels);
          Rng rng(1);
          const int64_t vocab = 131;
          const Weights table(dtype, layout, vocab, d, random_values(rng, vocab * d));
          const std::vector<int32_t> ids{0, 130, 63, 64, 65, 63, 1, 127, 128};
          const Tensor x(DType::f32, static_cast<int64_t>(ids.size()) * d);
          const EmbedParams p{static_cast<int64_t>(ids.size()), ids.data(), table.matrix, x.f32()};
          CHECK(device.run(OpKind::embed, &p).ok());
          std::vector<float> expected;
          for (int32_t id : ids)
            for (int64_t j = 0; j < d; ++j) expected.push_back(table.values[static_cast<size_t>(id * d + j)]);
          CHECK(bit_difference(x.floats(), expected) == "");
        }
  });
}

TEST_CASE("gather_rows copies rows, repeated and in any order") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 3);
    for (int64_t dim : kWidths) {
      INFO("dim ", dim);
      Rng rng(2);
      const std::vector<float> x = random_values(rng, 20 * dim);
      const std::vector<int32_t> index{19, 0, 7, 7, 3};
      const Tensor out(DType::f32, 5 * dim);
      const GatherRowsParams p{5, dim, x.data(), index.data(), out.f32()};
      CHECK(device.run(OpKind::gather_rows, &p).ok());
      std::vector<float> expected;
      for (int32_t row : index) expected.insert(expected.end(), x.begin() + row * dim, x.begin() + (row + 1) * dim);
      CHECK(bit_difference(out.floats(), expected) == "");
    }
  });
}

TEST_CASE("copy_rows widens exactly") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (int64_t dim : kWidths)
      for (DType dtype : {DType::f32, DType::bf16}) {
        INFO("dim ", dim, " in ", text(dtype_name(dtype)));
        Rng rng(3);
        const Tensor in(dtype, random_values(rng, 6 * dim));
        const Tensor out(DType::f32, 6 * dim);
        const CopyRowsParams p{6, dim, in.activation(), out.f32()};
        CHECK(device.run(OpKind::copy_rows, &p).ok());
        CHECK(bit_difference(out.floats(), in.floats()) == "");
      }
  });
}

TEST_CASE("quantize_rows: scale is max / 448, codes are the nearest e4m3") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (int64_t dim : kWidths)
      for (DType dtype : {DType::f32, DType::bf16}) {
        INFO("dim ", dim, " a ", text(dtype_name(dtype)));
        Rng rng(4);
        std::vector<float> values = random_values(rng, 5 * dim, 3.0f);
        for (int64_t j = 0; j < dim; ++j) {
          values[static_cast<size_t>(dim + j)] = 0.0f;         // no scale to take
          values[static_cast<size_t>(2 * dim + j)] *= 1e-30f;  // far below fp8's own range
          values[static_cast<size_t>(3 * dim + j)] *= 1e30f;
          values[static_cast<size_t>(4 * dim + j)] *= 1e-43f;  // the scale itself underflows
        }
        const Tensor a(dtype, values);
        values = a.floats();
        std::vector<uint8_t> codes(values.size()), expected_codes;
        std::vector<float> scales(5), expected_scales;
        const QuantizeRowsParams p{5, dim, a.activation(), codes.data(), scales.data()};
        CHECK(device.run(OpKind::quantize_rows, &p).ok());
        for (size_t row = 0; row < 5; ++row) {
          float max = 0.0f;
          const auto width = static_cast<size_t>(dim);
          for (size_t j = 0; j < width; ++j) max = std::fmax(max, std::fabs(values[row * width + j]));
          const float scale = max / 448.0f == 0.0f ? 1.0f : max / 448.0f;
          expected_scales.push_back(scale);
          for (size_t j = 0; j < width; ++j)
            expected_codes.push_back(to_fp8_e4m3(values[row * width + j] / scale).bits);
        }
        CHECK(bit_difference(scales, expected_scales) == "");
        CHECK(bit_difference(codes, expected_codes) == "");
      }
  });
}

}  // namespace
}  // namespace swiftkv::test
