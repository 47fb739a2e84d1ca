// Rotary position embedding of one head, in place.
#pragma once

#include <cstdint>

namespace swiftkv::cpu::scalar {

// Dimension i pairs with i + hd/2. cos_sin is the position's row of the rope table: cos[hd/2], then sin[hd/2].
inline void rotate(float* x, const float* cos_sin, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float c = cos_sin[i], s = cos_sin[half + i];
    const float a = x[i], b = x[half + i];
    x[i] = a * c - b * s;
    x[half + i] = b * c + a * s;
  }
}

}  // namespace swiftkv::cpu::scalar
