#include "level_device.h"

namespace swiftkv::test {

std::vector<cpu::CpuLevel> levels() {
  return cpu::available_levels(cpu::detect(), cpu::built_levels());
}

std::vector<Layout> table_layouts() {
  return {Layout::row_major, Layout::panels};
}

std::vector<int> thread_counts() {
  return {1, 2, 3};
}

LevelDevice::LevelDevice(cpu::CpuLevel level, int threads) : pool_(std::make_unique<ThreadPool>(threads)) {
  const DeviceOptions options{pool_.get(), threads, static_cast<int32_t>(level)};
  check(cpu_backend()->open(&options, &device_));
}

LevelDevice::~LevelDevice() {
  cpu_backend()->close(device_);
}

Status LevelDevice::run(OpKind kind, const void* params) const {
  const size_t bytes = cpu_backend()->scratch_bytes(device_, kind, params);
  if (scratch_.size() != bytes) scratch_ = Bytes(bytes);
  const OpContext context{scratch_.data(), scratch_.size()};
  return cpu_backend()->run(device_, kind, params, &context);
}

}  // namespace swiftkv::test
