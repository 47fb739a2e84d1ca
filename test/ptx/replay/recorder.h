// Records launches: for each its kernel, geometry and parameters, and all memory it may touch, before and after.
// Addresses in the parameters stay as they are: the interpreter puts the memory at the same ones.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "backends/cuda/kernels.h"
#include "backends/simt/observer.h"
#include "simt_device.h"

namespace swiftkv::test {

class Recorder : public simt::LaunchObserver {
 public:
  // Writes FOLDER/launches.json, and the memory to FOLDER/memory.bin.
  explicit Recorder(const std::string& folder);
  ~Recorder() override;
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // `type` is f32, bf16 or bytes: what is compared with a tolerance is numbers of that type.
  void memory(const char* name, const void* data, size_t bytes, const char* type = "bytes");

  // Runs the op with the scratch that it asks for, all of it recorded.
  template <class Params>
  Status run(int arch, Status (*op)(const Params&, const cuda::Context&), const Params& params,
             size_t (*scratch_of)(const Params&, const cuda::DeviceLimits&) = nullptr) {
    const cuda::DeviceLimits limits = limits_of(arch);
    const size_t bytes = scratch_of == nullptr ? 0 : scratch_of(params, limits);
    const DeviceBytes scratch(bytes);
    if (bytes > 0) memory("scratch", scratch.data(), bytes, "f32");
    simt::set_shared_limit(static_cast<size_t>(limits.shared_bytes_block));
    simt::set_launch_observer(this);
    const Status status = op(params, {nullptr, scratch.data(), bytes, limits, true});
    simt::set_launch_observer(nullptr);
    return status;
  }

  void before(const simt::Launch& launch) override;
  void after(const simt::Launch& launch, const Status& status) override;

 private:
  struct Memory {
    const char* name;
    const void* data;
    size_t bytes;
    const char* type;
    size_t before;  // offset in memory.bin
  };

  size_t write(const Memory& m);

  std::vector<Memory> memories_;
  std::FILE* json_;
  std::FILE* blob_;
  size_t blob_bytes_ = 0;
  bool first_ = true;
};

}  // namespace swiftkv::test
