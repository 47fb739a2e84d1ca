// Comparisons that say where and how much. An empty string means equal: CHECK(difference(...) == "").
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace swiftkv::test {

inline constexpr double kUnit = 0x1p-24;     // rounding unit of f32
inline constexpr double kUnitBf16 = 0x1p-8;  // rounding unit of bf16

// Allowed |actual - expected| of element i.
using Tolerance = std::function<double(size_t i)>;

// NaN must meet NaN and infinity the same infinity; everything else stays within the tolerance.
std::string difference(const std::vector<float>& actual, const std::vector<float>& expected, const Tolerance& allowed);

// Within abs + rel * |expected|.
std::string difference(const std::vector<float>& actual, const std::vector<float>& expected, double abs, double rel);

// The same bytes.
std::string bit_difference(const void* actual, const void* expected, size_t bytes, size_t element_bytes);

template <class T>
std::string bit_difference(const std::vector<T>& actual, const std::vector<T>& expected) {
  if (actual.size() != expected.size()) return "sizes differ";
  return bit_difference(actual.data(), expected.data(), actual.size() * sizeof(T), sizeof(T));
}

}  // namespace swiftkv::test
