// In which order the threads of a block run, and when asynchronous copies land. A correct kernel gives the same result
// under every schedule.
#pragma once

#include <cstdint>
#include <string>

namespace swiftkv::simt {

enum class Order : uint8_t { in_order, reversed, last_in, random };

// at_once finds buffers that are filled again too soon, late finds waits that are too weak: until it lands, a copy's
// destination holds NaN bytes.
enum class Landing : uint8_t { at_once, late, random };

struct Schedule {
  Order order = Order::in_order;
  Landing landing = Landing::at_once;
  uint64_t seed = 0;  // of both random choices

  std::string name() const;  // as parse_schedule reads it
};

// "ORDER/LANDING" or "ORDER/LANDING/SEED" with the names of the enumerators; false where it is anything else.
bool parse_schedule(const std::string& text, Schedule& out);

// The schedule of the launches of this process from here on; SWIFTKV_SIMT_SCHEDULE names the first one.
const Schedule& schedule();
void set_schedule(const Schedule& schedule);

class ScopedSchedule {
 public:
  explicit ScopedSchedule(const Schedule& s) : before_(schedule()) { set_schedule(s); }
  ~ScopedSchedule() { set_schedule(before_); }
  ScopedSchedule(const ScopedSchedule&) = delete;
  ScopedSchedule& operator=(const ScopedSchedule&) = delete;

 private:
  Schedule before_;
};

}  // namespace swiftkv::simt
