// Runs ops at one ISA level through the backend table, as the executor does. The tests of kernels on the host link
// another LevelDevice (test/simt/level_device.cpp), whose one level is the cuda backend: what holds for an op's levels
// holds for it too.
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
std::vector<cpu::CpuLevel> levels();

// The layouts of tables that Weights makes and this device reads: panels are a backend's own.
std::vector<Layout> table_layouts();

// Numbers of threads that may share an op's work on this device.
std::vector<int> thread_counts();

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
