// Weight matrices in the layouts of matrix_layout.h, on the host's side: sizes, conversion of rows, and back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/matrix_layout.h"
#include "core/backend.h"
#include "core/ops.h"
#include "core/status.h"

namespace swiftkv::cuda {

// Bytes of a matrix [n, k], scales included; 0 for a combination that does not exist (panels of integers, row-major
// int8 or int4).
size_t matrix_bytes(DType dtype, Layout layout, int64_t n, int64_t k);

// Where the rows of a matrix lie: value bytes and scale bytes of a row, both without a gap to the next row's.
struct RowPlaces {
  explicit RowPlaces(const Matrix& w);

  size_t values;         // bytes of a row
  size_t scales;         // bytes of a row's scales, or 0
  size_t scales_offset;  // of the first row's, from the matrix' start
};

// Throws nothing; says why these params cannot be packed.
Status check_pack(const PackParams& p);

// Rows [first, first + count) of the source as they lie in the matrix: to `values` and `scales`, whichever the params
// have (codes as they are leave the scales alone, scales the values; null then). Rounds and quantizes as the cpu
// backend does. The params have passed check_pack.
void pack_rows(const PackParams& p, int64_t first, int64_t count, std::byte* values, std::byte* scales);
constexpr bool packs_values(const PackParams& p) {
  return p.target == PackTarget::values;
}
constexpr bool packs_scales(const PackParams& p) {
  return p.target == PackTarget::scales || p.src_dtype != DType::fp8_e4m3;
}

// The whole of pack and its reverse for a matrix in host memory.
Status pack_host(const PackParams& p);
Status unpack_host(const Matrix& w, float* out);

}  // namespace swiftkv::cuda
