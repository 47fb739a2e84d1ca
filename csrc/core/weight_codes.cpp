// Plain loops over arrays, so that the compiler vectorises them for any machine. Compiled without contraction: a
// product and its rounding in one would be other codes.
#include "core/weight_codes.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace swiftkv {

namespace {

constexpr uint32_t kInfinity = 0x7f800000u;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// round(x), ties to even, for |x| below 2^22: beside 1.5 * 2^23 the unit is 1.
inline int32_t round_even(float x) {
  return static_cast<int32_t>(std::bit_cast<uint32_t>(x + 0x1.8p23f) - 0x4b400000u);
}

// All ones where the condition holds: selects that the compiler cannot turn into branches, which would stop it from
// making vectors of the loop.
inline uint32_t mask(bool condition) {
  return -static_cast<uint32_t>(condition);
}

// to_fp8_e4m3 of x.
inline uint8_t encode(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x), magnitude = u & 0x7fffffffu;
  const uint32_t rounded = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1u) - 0x3c000000u) >> 20;
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 16384.0f) - 0x46800000u;
  const uint32_t is_small = mask(magnitude < 0x3c800000u), is_large = mask(magnitude >= 0x43e00000u);
  const uint32_t code = (small & is_small) | (rounded & ~is_small);
  const uint32_t end = 0x7eu + static_cast<uint32_t>(magnitude > kInfinity);
  return static_cast<uint8_t>((code & ~is_large) | (end & is_large) | (u >> 24 & 0x80u));
}

// The value of largest magnitude, with its sign; of two that differ in sign only the negative one. As integers the bits
// of numbers without their sign order like magnitudes, and the sign as the lowest bit breaks ties.
float extreme_of(const float (&x)[kQuantGroup]) {
  uint32_t most = 0;
  for (float v : x) {
    const uint32_t u = std::bit_cast<uint32_t>(v), key = u << 1 | u >> 31;
    most = key > most ? key : most;
  }
  return std::bit_cast<float>(most >> 1 | most << 31);
}

}  // namespace

uint32_t max_magnitude(const float* x, int64_t count) {
  uint32_t most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return most;
}

RowScale fp8_row_scale(uint32_t most) {
  const float scale = most >= kInfinity ? kNan : fp8_scale(std::bit_cast<float>(most));
  return {scale, scale};
}

RowScale int8_row_scale(uint32_t most) {
  const float largest = std::bit_cast<float>(most);
  const bool zero = largest < kQuantLeast;
  return {most >= kInfinity ? kNan : zero ? 0.0f : largest / 127.0f, zero ? 0.0f : 127.0f / largest};
}

// Bytes may alias anything, so the compiler must be told that these do not.
void fp8_codes(const float* __restrict x, int64_t count, float scale, uint8_t* __restrict codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = encode(x[i] / scale);
}

// |x| * inverse is at most 127 and a rounding error.
void int8_codes(const float* __restrict x, int64_t count, float inverse, uint8_t* __restrict codes) {
  for (int64_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>(round_even(x[i] * inverse) + kInt8Zero);
}

f16 int4_group(const float (&x)[kQuantGroup], uint32_t (&codes)[kQuantGroup]) {
  constexpr float kMaxF16 = 65504.0f;
  const f16 scale = to_f16(std::clamp(extreme_of(x) / -8.0f, -kMaxF16, kMaxF16));
  const float step = to_f32(scale), inverse = step == 0.0f ? 0.0f : 1.0f / step;
  for (int64_t i = 0; i < kQuantGroup; ++i) {
    // x * inverse is from -8 to 8, which has no code.
    const uint32_t code = static_cast<uint32_t>(round_even(x[i] * inverse) + kInt4Zero);
    codes[i] = (code - (code >> 4)) & 15u;
  }
  return max_magnitude(x, kQuantGroup) < kInfinity ? scale : to_f16(kNan);
}

}  // namespace swiftkv
