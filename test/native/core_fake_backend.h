// A backend that computes nothing: it records the ops it is given, and does what a test asks at each of them.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/device.h"
#include "core/executor.h"

namespace swiftkv::test {

struct Recorded {
  OpKind kind;
  int64_t rows;
};

struct FakeDevice {
  std::vector<Recorded> ops;
  std::function<Status(OpKind, const void* params)> on_op;  // may be empty
  size_t allocations = 0;
  size_t allocated = 0;
  std::atomic<size_t> touched{0};
  size_t scratch = 0;            // what every op asks for
  int64_t fail_allocation = -1;  // which allocation (0, 1, ...) fails
};

const BackendTable& fake_backend();

// A device of the fake backend, with a pool of its own.
std::shared_ptr<OpenDevice> open_fake(int threads = 1);
FakeDevice& fake(const OpenDevice& device);

// The rows of an op's params.
int64_t rows_of(OpKind kind, const void* params);

}  // namespace swiftkv::test
