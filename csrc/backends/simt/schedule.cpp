#include "backends/simt/schedule.h"

#include <cstdlib>

#include "backends/simt/block.h"

namespace swiftkv::simt {
namespace {

constexpr const char* kOrders[] = {"in_order", "reversed", "last_in", "random"};
constexpr const char* kLandings[] = {"at_once", "late", "random"};

constexpr const char* kVariable = "SWIFTKV_SIMT_SCHEDULE";
const char* misread = nullptr;  // what the variable says, where that is no schedule

template <class T, size_t N>
bool find(const char* const (&names)[N], const std::string& name, T& out) {
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) {
      out = static_cast<T>(i);
      return true;
    }
  }
  return false;
}

Schedule first_schedule() {
  Schedule s;
  const char* text = std::getenv(kVariable);
  if (text != nullptr && !parse_schedule(text, s)) misread = text;
  return s;
}

Schedule& current() {
  static Schedule s = first_schedule();
  return s;
}

uint64_t generation = 1;

}  // namespace

std::string Schedule::name() const {
  std::string text = std::string(kOrders[static_cast<int>(order)]) + "/" + kLandings[static_cast<int>(landing)];
  if (order == Order::random || landing == Landing::random) text += "/" + std::to_string(seed);
  return text;
}

bool parse_schedule(const std::string& text, Schedule& out) {
  const size_t first = text.find('/');
  if (first == std::string::npos) return false;
  const size_t second = text.find('/', first + 1);
  Schedule s;
  if (!find(kOrders, text.substr(0, first), s.order)) return false;
  if (!find(kLandings, text.substr(first + 1, second == std::string::npos ? second : second - first - 1), s.landing))
    return false;
  if (second != std::string::npos) {
    char* end = nullptr;
    const std::string digits = text.substr(second + 1);
    s.seed = std::strtoull(digits.c_str(), &end, 10);
    if (digits.empty() || *end != '\0') return false;
  }
  out = s;
  return true;
}

const Schedule& schedule() {
  return current();
}

void set_schedule(const Schedule& s) {
  current() = s;
  ++generation;
}

Status check_schedule() {
  current();
  if (misread == nullptr) return {};
  return fail(Code::invalid_argument, "Expected %s to be ORDER/LANDING[/SEED] but received %.60s", kVariable, misread);
}

uint64_t schedule_generation() {
  return generation;
}

}  // namespace swiftkv::simt
