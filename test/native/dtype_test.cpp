// Conversions: every 16-bit and 8-bit value, every rounding boundary, against arithmetic in double.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "core/dtype.h"
#include "generators.h"

namespace swiftkv::test {
namespace {

// The value that a format of `exponent_bits` and `mantissa_bits` gives to bits, by definition.
double defined_value(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t exponent = (bits >> mantissa_bits) & ((1u << exponent_bits) - 1);
  const double mantissa = static_cast<double>(bits & ((1u << mantissa_bits) - 1));
  const double scale = std::ldexp(1.0, -mantissa_bits);
  const double magnitude = exponent == 0 ? std::ldexp(mantissa * scale, 1 - bias)
                                         : std::ldexp(1.0 + mantissa * scale, static_cast<int>(exponent) - bias);
  return (bits >> (exponent_bits + mantissa_bits)) != 0 ? -magnitude : magnitude;
}

// Checks from_f32<T> between each pair of neighbouring finite values: the ends, just beside the middle, and the tie.
template <class T>
size_t wrong_roundings(const std::vector<uint32_t>& ascending_bits) {
  size_t wrong = 0;
  for (size_t i = 0; i + 1 < ascending_bits.size(); ++i) {
    using Bits = decltype(T::bits);
    const T low{static_cast<Bits>(ascending_bits[i])}, high{static_cast<Bits>(ascending_bits[i + 1])};
    const float a = to_f32(low), b = to_f32(high);
    const float middle = static_cast<float>((static_cast<double>(a) + static_cast<double>(b)) / 2.0);  // exact
    const T even = (low.bits & 1u) == 0 ? low : high;
    for (const float sign : {1.0f, -1.0f}) {
      const auto is = [&](float x, T expected) {
        const auto flip = static_cast<Bits>(sign < 0 ? 1u << (8 * sizeof(Bits) - 1) : 0u);
        return from_f32<T>(sign * x).bits == (expected.bits | flip);
      };
      wrong += !is(a, low) + !is(b, high) + !is(middle, even) + !is(std::nextafterf(middle, 0.0f), low) +
               !is(std::nextafterf(middle, INFINITY), high);
    }
  }
  return wrong;
}

std::vector<uint32_t> up_to(uint32_t last) {
  std::vector<uint32_t> bits;
  for (uint32_t i = 0; i <= last; ++i) bits.push_back(i);
  return bits;
}

TEST_CASE("fp8 e4m3: all 256 codes have their defined value and come back") {
  for (uint32_t code = 0; code < 256; ++code) {
    const float value = to_f32(fp8_e4m3{static_cast<uint8_t>(code)});
    if ((code & 0x7f) == 0x7f) {
      CHECK(std::isnan(value));
      continue;
    }
    CHECK(static_cast<double>(value) == defined_value(code, 4, 3));
    CHECK(std::signbit(value) == (code >= 128));
    CHECK(to_fp8_e4m3(value).bits == code);
  }
  CHECK(to_f32(fp8_e4m3{0x7e}) == 448.0f);
  CHECK(to_f32(fp8_e4m3{0x01}) == 0x1p-9f);
}

TEST_CASE("fp8 e4m3 rounds to nearest even, saturates, keeps NaN") {
  CHECK(wrong_roundings<fp8_e4m3>(up_to(0x7e)) == 0);
  CHECK(to_fp8_e4m3(448.0f).bits == 0x7e);
  CHECK(to_fp8_e4m3(464.0f).bits == 0x7e);  // the tie to 480, which does not exist
  CHECK(to_fp8_e4m3(1e30f).bits == 0x7e);
  CHECK(to_fp8_e4m3(INFINITY).bits == 0x7e);
  CHECK(to_fp8_e4m3(-INFINITY).bits == 0xfe);
  CHECK((to_fp8_e4m3(NAN).bits & 0x7f) == 0x7f);
  CHECK(to_fp8_e4m3(0x1p-10f).bits == 0);  // the tie between 0 and the smallest
  CHECK(to_fp8_e4m3(std::nextafterf(0x1p-10f, 1.0f)).bits == 1);
  CHECK(to_fp8_e4m3(1e-45f).bits == 0);
  CHECK(to_fp8_e4m3(-0.0f).bits == 0x80);
}

TEST_CASE("f16: all 65,536 patterns have their defined value, come back, and round to nearest even") {
  size_t wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = to_f32(f16{static_cast<uint16_t>(bits)});
    const uint32_t exponent = (bits >> 10) & 31u, mantissa = bits & 0x3ffu;
    if (exponent == 31)
      wrong += mantissa != 0 ? !std::isnan(value) : value != (bits >= 0x8000 ? -INFINITY : INFINITY);
    else
      wrong += static_cast<double>(value) != defined_value(bits, 5, 10) || std::signbit(value) != (bits >= 0x8000) ||
               to_f16(value).bits != bits;
  }
  CHECK(wrong == 0);
  CHECK(wrong_roundings<f16>(up_to(0x7bff)) == 0);
  CHECK(to_f16(65519.99f).bits == 0x7bff);
  CHECK(to_f16(65520.0f).bits == 0x7c00);
  CHECK(to_f16(-INFINITY).bits == 0xfc00);
  CHECK((to_f16(NAN).bits & 0x7fffu) > 0x7c00u);
}

TEST_CASE("bf16: every pattern comes back, rounding is to nearest even, NaN stays NaN") {
  size_t wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float value = to_f32(bf16{static_cast<uint16_t>(bits)});
    if (std::isnan(value))
      wrong += !std::isnan(to_f32(to_bf16(value)));
    else
      wrong += std::bit_cast<uint32_t>(value) != bits << 16 || to_bf16(value).bits != bits;
  }
  CHECK(wrong == 0);
  CHECK(wrong_roundings<bf16>(up_to(0x7f7f)) == 0);
  CHECK(to_bf16(3.4e38f).bits == 0x7f80);  // overflow is infinity
  // A NaN whose payload lies in the dropped half must not become infinity.
  CHECK(std::isnan(to_f32(to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST_CASE("fp8_scale maps the largest magnitude to 448 and never divides by zero") {
  CHECK(fp8_scale(448.0f) == 1.0f);
  CHECK(fp8_scale(0.0f) == 1.0f);
  CHECK(fp8_scale(1e-45f) == 1.0f);
  CHECK(to_fp8_e4m3(3.7f / fp8_scale(3.7f)).bits == 0x7e);
}

}  // namespace
}  // namespace swiftkv::test
