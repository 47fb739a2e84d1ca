// Runs ops at one ISA level through the backend table, as the executor does.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "backends/cpu/level.h"
#include "core/backend.h"
#include "core/thread_pool.h"
#include "fixtures.h"

namespace swiftkv::test {

// Levels that this build has and this machine can run, slowest first.
inline std::vector<cpu::CpuLevel> levels() {
  return cpu::available_levels(cpu::detect(), cpu::built_levels());
}

class LevelDevice {
 public:
  explicit LevelDevice(cpu::CpuLevel level, int threads = 1);
  ~LevelDevice();
  LevelDevice(const LevelDevice&) = delete;
  LevelDevice& operator=(const LevelDevice&) = delete;

  // Scratch is exactly as large as asked for. It holds NaN at first, then what earlier runs left in it.
  Status run(OpKind kind, const void* params) const;

 private:
  std::unique_ptr<ThreadPool> pool_;
  Device* device_ = nullptr;
  mutable Bytes scratch_{0};
};

// doctest prints a const char* as an address.
inline std::string text(const char* name) {
  return name;
}

// Calls f(level) for every level, with its name in the message of a failure.
template <class F>
void for_each_level(F&& f) {
  for (cpu::CpuLevel level : levels()) {
    INFO("level ", text(cpu::level_name(level)));
    f(level);
  }
}

}  // namespace swiftkv::test
