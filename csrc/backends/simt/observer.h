// Looking at launches: what a kernel was called with, before and after it has run. test/ptx records launches with it,
// to replay them in a PTX interpreter.
#pragma once

#include <cstddef>

#include "backends/simt/executor.h"

namespace swiftkv::simt {

struct Parameter {
  const void* data;
  size_t bytes;
};

struct Launch {
  const Grid& grid;
  const void* kernel;  // the address of its function
  const Parameter* parameters;
  size_t parameter_count;
};

class LaunchObserver {
 public:
  virtual ~LaunchObserver() = default;
  virtual void before(const Launch& launch) = 0;
  virtual void after(const Launch& launch, const Status& status) = 0;
};

// Of all launches from here on; null for none. For programs of one thread.
void set_launch_observer(LaunchObserver* observer);

// run_grid(launch.grid), observed.
Status run_observed(const Launch& launch);

}  // namespace swiftkv::simt
