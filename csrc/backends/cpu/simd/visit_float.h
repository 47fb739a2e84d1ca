// The dispatch axis over f32 and bf16 operands. The registry has checked the dtypes, so there is no third case here.
#pragma once

#include "core/dtype.h"

namespace swiftkv::cpu::simd {

template <class F>
static inline void visit_float(DType dtype, F&& f) {
  if (dtype == DType::bf16)
    f(bf16{});
  else
    f(float{});
}

}  // namespace swiftkv::cpu::simd
