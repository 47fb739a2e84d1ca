// Scratch cut into 64-byte aligned arrays.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels.h"

namespace swiftkv::cpu::train {

// From a null start it only counts bytes.
class Carver {
 public:
  explicit Carver(std::byte* start) : start_(start) {}

  template <class T>
  T* take(int64_t count) {
    std::byte* const at = start_ == nullptr ? nullptr : start_ + used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(at);
  }
  size_t used() const { return used_; }

  // What is left, for a kernel that is called within another.
  Context rest(const Context& c) const { return {c.pool, c.threads, c.scratch + used_, c.scratch_bytes - used_}; }

 private:
  std::byte* start_;
  size_t used_ = 0;
};

}  // namespace swiftkv::cpu::train
