#include "backends/simt/observer.h"

namespace swiftkv::simt {
namespace {

LaunchObserver* observer = nullptr;

}  // namespace

void set_launch_observer(LaunchObserver* o) {
  observer = o;
}

Status run_observed(const Launch& launch) {
  if (observer == nullptr) return run_grid(launch.grid);
  observer->before(launch);
  const Status status = run_grid(launch.grid);
  observer->after(launch, status);
  return status;
}

}  // namespace swiftkv::simt
