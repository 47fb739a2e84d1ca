// A matrix product as launchers see it: what its operands are, how its activations are made ready, and where the rows
// of its weights lie.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/kernels.h"
#include "backends/cuda/matrix_layout.h"
#include "core/ops.h"
#include "core/status.h"

namespace swiftkv::cuda {

// y = a W^T.
struct ProductParams {
  int64_t rows;
  Activation a;  // [rows, k]
  Matrix w;      // [n, k], panels
  bool fp8_activations;
};

enum class ProductKind : int32_t {
  tensor,   // bf16 or fp8 weights and activations of 16 bits, or fp8 codes, which are 16 bits too once they are widened
  f32,      // f32 or fp8 weights and f32 activations
  integer,  // int8 or int4 weights
};

constexpr ProductKind product_kind(const ProductParams& p) {
  if (p.w.dtype == DType::int8 || p.w.dtype == DType::int4) return ProductKind::integer;
  return p.a.dtype == DType::bf16 || p.fp8_activations ? ProductKind::tensor : ProductKind::f32;
}

// Activations as kernels read them, and weights [n][k] from some row on.
struct Product {
  ProductKind kind;
  DType w_dtype;
  int64_t rows, n;
  int32_t k;      // of a row of weights, padded
  const void* a;  // bf16 [rows][a_stride], f32 [rows][a_stride], int8 [rows][k]
  int32_t a_stride;
  int32_t a_width;        // elements of a row of a that are there; the others up to k count as zero
  const float* a_scales;  // fp8_activations: [rows]; integer: [rows][k / 32]; otherwise null
  const std::byte* w;
  const void* w_scales;  // f32 [n]; int4: f16 [n][k / 32]; null where there are none

  // Of the output, for what comes after the product.
  const float* output_scales() const { return w_dtype == DType::int4 ? nullptr : static_cast<const float*>(w_scales); }
  const float* row_scales() const { return kind == ProductKind::integer ? nullptr : a_scales; }
};

// Bytes of scratch that prepare_product takes for params with these many rows.
size_t prepared_bytes(const ProductParams& p);

// Queues what makes the activations ready, in `scratch`, and says where everything is.
Status prepare_product(const ProductParams& p, const Context& c, std::byte* scratch, Product& out);

// The same product with outputs [first, first + count) or rows [first, first + count) only.
Product outputs_of(const Product& p, int64_t first, int64_t count);
Product rows_of(const Product& p, int64_t first, int64_t count);

constexpr size_t aligned_bytes(int64_t bytes) {
  return static_cast<size_t>((bytes + 255) / 256 * 256);
}

}  // namespace swiftkv::cuda
