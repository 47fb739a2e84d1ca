// Activations made ready for a product: padded, or turned into codes with scales.
#include "backends/cuda/product.h"

#include "backends/cuda/gemm_rows.cuh"
#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

// Rows of any width to rows of `stride` elements, zeros behind the width.
__global__ void __launch_bounds__(kRowThreads) pad_rows(const bf16* a, int64_t width, int64_t stride, bf16* out) {
  const int64_t row = blockIdx.x;
  for (int64_t i = threadIdx.x; i < stride; i += kRowThreads)
    out[row * stride + i] = i < width ? a[row * width + i] : bf16{0};
}

namespace {

constexpr int64_t kVector = 8;  // bf16 elements of a copy of 16 bytes

// bf16 rows that copies of 16 bytes cannot take.
bool needs_padding(const ProductParams& p) {
  return product_kind(p) == ProductKind::tensor && !p.fp8_activations && p.w.k % kVector != 0;
}

size_t value_bytes(const ProductParams& p) {
  const int64_t elements = p.rows * pad_k(p.w.k);
  if (product_kind(p) == ProductKind::integer) return aligned_bytes(elements);
  return p.fp8_activations || needs_padding(p) ? aligned_bytes(elements * 2) : 0;
}

size_t scale_bytes(const ProductParams& p) {
  if (product_kind(p) == ProductKind::integer) return aligned_bytes(p.rows * (pad_k(p.w.k) / kQuantGroup) * 4);
  return p.fp8_activations ? aligned_bytes(p.rows * 4) : 0;
}

}  // namespace

size_t prepared_bytes(const ProductParams& p) {
  return value_bytes(p) + scale_bytes(p);
}

Status prepare_product(const ProductParams& p, const Context& c, std::byte* scratch, Product& out) {
  const int64_t k = pad_k(p.w.k);
  const auto* w = static_cast<const std::byte*>(p.w.data);
  const auto narrow = [](int64_t x) { return static_cast<int32_t>(x); };
  out = {product_kind(p), p.w.dtype,     p.rows,  p.w.n, narrow(k), p.a.data,
         narrow(p.w.k),   narrow(p.w.k), nullptr, w,     nullptr};
  if (matrix_scale_bytes(p.w.dtype, p.w.n, p.w.k) > 0) out.w_scales = w + matrix_value_bytes(p.w.dtype, p.w.n, p.w.k);
  if (prepared_bytes(p) == 0) return {};
  auto* scales = reinterpret_cast<float*>(scratch + value_bytes(p));
  out.a = scratch;
  out.a_stride = out.a_width = narrow(k);
  const dim3 grid = grid_of(p.rows), block(kRowThreads);
  if (needs_padding(p))
    return launch("pad_rows", &pad_rows, grid, block, 0, c.stream, static_cast<const bf16*>(p.a.data), p.w.k, k,
                  reinterpret_cast<bf16*>(scratch));
  out.a_scales = scales;
  return visit_activation(p.a.dtype, [&]<class T>(T) {
    const auto* a = static_cast<const T*>(p.a.data);
    if (p.fp8_activations)
      return launch("fp8_rows", &fp8_rows<T, bf16>, grid, block, 0, c.stream, a, p.w.k, k,
                    reinterpret_cast<bf16*>(scratch), scales);
    return launch("integer_rows", &integer_rows<T>, grid, block, 0, c.stream, a, p.w.k, k, p.w.dtype == DType::int4,
                  reinterpret_cast<int8_t*>(scratch), scales);
  });
}

Product outputs_of(const Product& p, int64_t first, int64_t count) {
  Product part = p;
  part.n = count;
  part.w = p.w + matrix_value_bytes(p.w_dtype, first, p.k);
  if (p.w_scales != nullptr)
    part.w_scales = static_cast<const std::byte*>(p.w_scales) + matrix_scale_bytes(p.w_dtype, first, p.k);
  return part;
}

Product rows_of(const Product& p, int64_t first, int64_t count) {
  Product part = p;
  const int64_t element = p.kind == ProductKind::tensor ? 2 : p.kind == ProductKind::f32 ? 4 : 1;
  part.rows = count;
  part.a = static_cast<const std::byte*>(p.a) + first * p.a_stride * element;
  if (p.a_scales != nullptr)
    part.a_scales = p.a_scales + first * (p.kind == ProductKind::integer ? p.k / kQuantGroup : 1);
  return part;
}

}  // namespace swiftkv::cuda
