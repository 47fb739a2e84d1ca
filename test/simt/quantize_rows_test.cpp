// quantize_rows on the host's executor: the scalar level's bytes.
#include <doctest/doctest.h>

#include <cmath>

#include "backends/cpu/scalar/ops.h"
#include "compare.h"
#include "reference.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

TEST_CASE("quantize_rows has the scalar level's codes and scales [race]") {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t dim : kWidths)
      for (const int64_t rows : {0, 1, 3}) {
        INFO(std::string(dtype_name(dtype)), " rows ", rows, " dim ", dim);
        Rng rng(1);
        std::vector<float> values = random_values(rng, rows * dim, 5.0f);
        if (rows == 3) {
          for (int64_t i = 0; i < dim; ++i) values[static_cast<size_t>(i)] = 0.0f;  // scale 1
          values[static_cast<size_t>(dim)] = NAN;  // stays NaN, and does not become the scale
        }
        const Tensor a(dtype, values);
        const Bytes codes(static_cast<size_t>(rows * dim)), expected_codes(codes.size());
        std::vector<float> scales(static_cast<size_t>(rows)), expected_scales(scales.size());
        run_reference(&cpu::scalar::quantize_rows,
                      QuantizeRowsParams{rows, dim, a.activation(), reinterpret_cast<uint8_t*>(expected_codes.data()),
                                         expected_scales.data()});
        const QuantizeRowsParams params{rows, dim, a.activation(), reinterpret_cast<uint8_t*>(codes.data()),
                                        scales.data()};
        for_each_schedule(
            [&] {
              CHECK(why(SimtDevice().run(&cuda::quantize_rows, params)) == "");
              CHECK(bit_difference(codes.data(), expected_codes.data(), codes.size(), 1) == "");
              CHECK(bit_difference(scales, expected_scales) == "");
            },
            dim == 257 ? 8 : 0);
      }
}

}  // namespace
}  // namespace swiftkv::test
