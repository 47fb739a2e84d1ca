// What launchers share: integer arithmetic of grids, and the visitors that turn dtypes into types.
#pragma once

#include <cstdint>

#include "backends/cuda/kernels.h"
#include "backends/cuda/platform.h"

namespace swiftkv::cuda {

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// A grid's x may be 2^31 - 1; y and z only 65535: rows go to x.
inline dim3 grid_of(int64_t x, int64_t y = 1, int64_t z = 1) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
}

// Calls f(T{}) with the type of an activation, f32 or bf16.
template <class F>
Status visit_activation(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16{});
    default: return fail(Code::unsupported, "Expected activations of f32 or bf16 but received %s", dtype_name(dtype));
  }
}

}  // namespace swiftkv::cuda
