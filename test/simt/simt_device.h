// Calls launchers of the cuda backend on host memory, and repeats a test under several schedules.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "backends/cuda/kernels.h"
#include "backends/simt/executor.h"
#include "backends/simt/schedule.h"
#include "core/status.h"

namespace swiftkv::test {

// "Device" memory of exactly this size, 256-byte aligned as the runtime's, all 0xff: NaN in every float type.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t size) : size_(size) {
    void* data = nullptr;
    if (posix_memalign(&data, 256, size == 0 ? 1 : size) != 0) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(data);
    std::memset(data_, 0xff, size);
  }
  ~DeviceBytes() { std::free(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The chips that kernels choose tiles for: A100, L40S, H100.
inline cuda::DeviceLimits limits_of(int arch) {
  switch (arch) {
    case 80: return {80, 108, 163 * 1024, 164 * 1024};
    case 89: return {89, 142, 99 * 1024, 100 * 1024};
    default: return {arch, 132, 227 * 1024, 228 * 1024};
  }
}

class SimtDevice {
 public:
  explicit SimtDevice(int arch = 80, bool batch_invariant = true)
      : limits_(limits_of(arch)), batch_invariant_(batch_invariant) {}
  // For plans that depend on the number of multiprocessors or on the shared memory of a block.
  explicit SimtDevice(const cuda::DeviceLimits& limits, bool batch_invariant = true)
      : limits_(limits), batch_invariant_(batch_invariant) {}

  const cuda::DeviceLimits& limits() const { return limits_; }

  template <class Params>
  Status run(Status (*op)(const Params&, const cuda::Context&), const Params& params, size_t scratch_bytes = 0) const {
    const DeviceBytes scratch(scratch_bytes);
    const size_t limit = simt::set_shared_limit(static_cast<size_t>(limits_.shared_bytes_block));
    const Status status = op(params, {nullptr, scratch.data(), scratch_bytes, limits_, batch_invariant_});
    simt::set_shared_limit(limit);
    return status;
  }

  // With the scratch that the op asks for.
  template <class Params>
  Status run(Status (*op)(const Params&, const cuda::Context&), const Params& params,
             size_t (*scratch)(const Params&, const cuda::DeviceLimits&)) const {
    return run(op, params, scratch(params, limits_));
  }

 private:
  cuda::DeviceLimits limits_;
  bool batch_invariant_;
};

// CHECK(why(status) == ""): the whole text of a failed check of the executor.
inline std::string why(const Status& status) {
  if (status.ok()) return "";
  const std::string& whole = simt::last_failure();
  return whole.empty() ? status.message : whole;
}

// The fixed orders with both landings, and random ones by seed (fixed ones alone miss missing barriers); only the one
// that SWIFTKV_SIMT_SCHEDULE names where it is set.
inline std::vector<simt::Schedule> schedules(int random_seeds = 8) {
  using simt::Landing, simt::Order;
  if (std::getenv("SWIFTKV_SIMT_SCHEDULE") != nullptr) return {simt::schedule()};
  std::vector<simt::Schedule> all;
  for (Order order : {Order::in_order, Order::reversed, Order::last_in}) {
    for (Landing landing : {Landing::at_once, Landing::late}) all.push_back({order, landing, 0});
  }
  for (int seed = 1; seed <= random_seeds; ++seed) {
    const Landing landing = seed % 3 == 0 ? Landing::at_once : seed % 3 == 1 ? Landing::random : Landing::late;
    all.push_back({Order::random, landing, static_cast<uint64_t>(seed)});
  }
  return all;
}

// Calls f() under each schedule, whose name is in the message of a failure.
template <class F>
void for_each_schedule(F&& f, int random_seeds = 8) {
  for (const simt::Schedule& s : schedules(random_seeds)) {
    const simt::ScopedSchedule scoped(s);
    const std::string name = s.name();
    INFO("schedule ", name);
    f();
  }
}

}  // namespace swiftkv::test
