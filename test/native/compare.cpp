#include "compare.h"

#include <cmath>
#include <cstring>
#include <sstream>

namespace swiftkv::test {

std::string difference(const std::vector<float>& actual, const std::vector<float>& expected, const Tolerance& allowed) {
  std::ostringstream text;
  text.precision(9);
  if (actual.size() != expected.size()) {
    text << "sizes " << actual.size() << " and " << expected.size() << " differ";
    return text.str();
  }
  size_t wrong = 0, special = 0, worst = 0;
  double worst_ratio = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const float a = actual[i], e = expected[i];
    if (std::isfinite(a) && std::isfinite(e)) {
      const double error = std::fabs(static_cast<double>(a) - static_cast<double>(e)), limit = allowed(i);
      if (error <= limit) continue;
      ++wrong;
      const double ratio = limit > 0.0 ? error / limit : INFINITY;
      if (ratio > worst_ratio || wrong == 1) worst_ratio = ratio, worst = i;
    } else if (!(std::isnan(a) && std::isnan(e)) && a != e) {
      if (special++ == 0) text << "at " << i << " " << a << " instead of " << e << "; ";
    }
  }
  if (special > 0) text << special << " of " << actual.size() << " not finite where they should be, or otherwise; ";
  if (wrong > 0)
    text << wrong << " of " << actual.size() << " outside tolerance, worst at " << worst << ": " << actual[worst]
         << " instead of " << expected[worst] << " (" << worst_ratio << " x the allowed " << allowed(worst) << ")";
  return text.str();
}

std::string difference(const std::vector<float>& actual, const std::vector<float>& expected, double abs, double rel) {
  return difference(actual, expected,
                    [&](size_t i) { return abs + rel * std::fabs(static_cast<double>(expected[i])); });
}

std::string bit_difference(const void* actual, const void* expected, size_t bytes, size_t element_bytes) {
  const auto* a = static_cast<const unsigned char*>(actual);
  const auto* e = static_cast<const unsigned char*>(expected);
  if (bytes == 0 || std::memcmp(a, e, bytes) == 0) return "";
  size_t wrong = 0, first = 0;
  for (size_t i = 0; i + element_bytes <= bytes; i += element_bytes)
    if (std::memcmp(a + i, e + i, element_bytes) != 0 && wrong++ == 0) first = i / element_bytes;
  std::ostringstream text;
  text << wrong << " of " << bytes / element_bytes << " elements differ in bits, first at " << first;
  return text.str();
}

}  // namespace swiftkv::test
