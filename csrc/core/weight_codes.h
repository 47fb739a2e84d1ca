// Quantization of weights: the codes and scales that rows of floats become, alike on every backend and machine.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/ops.h"

namespace swiftkv {

// What is added to q where codes are stored without a sign.
inline constexpr int32_t kInt8Zero = 128;
inline constexpr int32_t kInt4Zero = 8;

// Bits of the largest magnitude. As integers they order like the numbers, with infinity and NaN above all.
uint32_t max_magnitude(const float* x, int64_t count);

// A row's scale, and what its elements are divided by (fp8) or multiplied with (int8) to become codes. `most` is the
// row's max_magnitude. A row with infinity or NaN has the scale NaN, and any codes.
struct RowScale {
  float scale, factor;
};
RowScale fp8_row_scale(uint32_t most);
RowScale int8_row_scale(uint32_t most);

void fp8_codes(const float* x, int64_t count, float scale, uint8_t* codes);
// q + 128
void int8_codes(const float* x, int64_t count, float inverse, uint8_t* codes);
// q + 8; the group's scale: the value of largest magnitude becomes -8, the end of the range that has no counterpart.
f16 int4_group(const float (&x)[kQuantGroup], uint32_t (&codes)[kQuantGroup]);

}  // namespace swiftkv
