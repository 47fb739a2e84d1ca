// Weight matrices in the backend's two layouts: sizes, index arithmetic, packing and unpacking.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/backend.h"
#include "core/ops.h"
#include "core/status.h"

namespace swiftkv::cpu {

// Bytes of a matrix [n, k], scales included; 0 for a combination that does not exist (panels of integers, row-major
// int8 or int4).
size_t matrix_bytes(DType dtype, Layout layout, int64_t n, int64_t k);

// Element offset of W[row][col] in panels of 64 outputs (see Layout::panels).
static inline int64_t panel_index(DType dtype, int64_t k, int64_t row, int64_t col) {
  const int64_t panel = row / kPanel, lane = row % kPanel;
  if (dtype == DType::f32) return (panel * k + col) * kPanel + lane;
  const int64_t pairs = (k + 1) / 2;
  return ((panel * pairs + col / 2) * kPanel + lane) * 2 + col % 2;
}

static inline int64_t matrix_index(const Matrix& w, int64_t row, int64_t col) {
  return w.layout == Layout::panels ? panel_index(w.dtype, w.k, row, col) : row * w.k + col;
}

// Rows [dst_row, dst_row + rows) from row-major f32, bf16 or f16, converted to the matrix' dtype (see PackParams).
// Touches those rows only, so that several matrices can be concatenated at any offset; padding stays as it was
// allocated, zero.
Status pack(const PackParams& params);

// Row-major floats [n, k] of a matrix.
Status unpack(const Matrix& matrix, float* out);

}  // namespace swiftkv::cpu
