// The dispatch axis over the types of activations and weights: f32 and bf16.
#pragma once

#include "core/dtype.h"
#include "core/status.h"

namespace swiftkv::cpu {

// Calls f(T{}) with float or bf16 and returns its Status.
template <class F>
Status visit_float(DType dtype, const char* what, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16{});
    default: return fail(Code::unsupported, "Expected f32 or bf16 for %s but received %s", what, dtype_name(dtype));
  }
}

}  // namespace swiftkv::cpu
