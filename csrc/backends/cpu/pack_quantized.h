// Packing, unpacking and reading rows of matrices of 8 and 4 bits.
#pragma once

#include "core/backend.h"

namespace swiftkv::cpu {

// As pack() and unpack(), for a destination that is_quantized in panels. Rows are quantized one by one: the split into
// calls does not matter.
Status pack_quantized(const PackParams& params);
void unpack_quantized(const Matrix& matrix, float* out);

// out[k] = code * scale of one row: an embedding that is tied to a quantized head.
void read_quantized_row(const Matrix& matrix, int64_t row, float* out);

}  // namespace swiftkv::cpu
