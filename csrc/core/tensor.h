// A tensor that owns its memory, and the ways in and out of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.h"
#include "core/operands.h"

namespace swiftkv {

// Copies share the memory. `shape` is fixed: no axes.
struct Tensor {
  std::shared_ptr<Storage> storage;
  TensorView view;

  // Throws Error: disposed when the memory is gone.
  void require_alive() const;
};

// A zero-filled tensor of rank 0 to 4; panels need rank 2 and f32, bf16 or f16. Throws Error.
Tensor make_tensor(const std::shared_ptr<OpenDevice>& device, DType dtype, const std::vector<int64_t>& shape,
                   Layout layout, MemoryPart part = MemoryPart::tensors);

// Raw bytes [offset, offset + bytes) of a row-major tensor. Throws Error when they lie outside or the tensor is packed.
void write_bytes(const Tensor& tensor, size_t offset, const void* src, size_t bytes);
void read_bytes(const Tensor& tensor, size_t offset, void* dst, size_t bytes);

// Logical row-major values of the whole tensor (`count` must be its number of elements), converted to or from its dtype
// (nearest even; i32 and u8 take integral values in range) and layout. Throws Error.
void write_floats(const Tensor& tensor, const float* values, int64_t count);
void read_floats(const Tensor& tensor, float* values, int64_t count);

// Rows [row, row + rows) of a rank-2 floating-point tensor from row-major elements of dtype f32, bf16 or f16: how
// weights come in. Throws Error when the rows or the width do not fit.
void write_rows(const Tensor& tensor, int64_t row, int64_t rows, const void* src, DType src_dtype);

}  // namespace swiftkv
