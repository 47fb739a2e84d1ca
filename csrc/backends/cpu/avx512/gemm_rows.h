// The activations of a product in the form that its kernel takes: as they lie, as fp8 codes widened to bf16 with a
// scale per row, or as 8-bit integers with a scale per group of 32 along k (LinearParams in core/ops.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/avx512/gemm_plan.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/quantized.h"
#include "core/ops.h"

namespace swiftkv::cpu::avx512 {

struct Gemm {
  Activation a;  // [rows, k], contiguous; of the weights' dtype unless they are quantized
  Matrix w;      // panels
  bool fp8_activations;
};

// What a kernel multiplies.
enum class Arithmetic { f32, bf16, int8 };

static inline Arithmetic arithmetic_of(const Gemm& g) {
  if (g.w.dtype == DType::int8 || g.w.dtype == DType::int4) return Arithmetic::int8;
  return g.fp8_activations || g.a.dtype == DType::bf16 ? Arithmetic::bf16 : Arithmetic::f32;
}

struct GemmRows {
  const std::byte* a;          // f32, bf16 or int8 codes
  int64_t stride;              // bytes of a row
  const float* row_scales;     // [rows] with fp8 activations, else null
  const float* group_scales;   // int8: [rows, groups]
  const int32_t* corrections;  // int8: [rows, groups], what the offset of stored codes adds to a group's sum, negated
};

// int8: bytes of a row of codes, whole groups.
static inline constexpr int64_t code_row_bytes(int64_t k) {
  return div_up(k, kQuantGroup) * kQuantGroup;
}

// Scratch of the prepared rows, a multiple of 64.
size_t prepared_bytes(const Gemm& g, int64_t rows);

// Few rows are prepared by the caller itself, many on the context's threads.
GemmRows prepare_rows(const Gemm& g, int64_t rows, std::byte* scratch, const Context& ctx);

}  // namespace swiftkv::cpu::avx512
