// One opened device: its streams, its memory, and weights on their way to it.
//
// Memory: all of it is taken by allocate() when a model is loaded (weights, KV pool, workspace of programs with their
// images of a batch, sampler tables) and given back by release(); a step takes none. Sampler slots alone grow, between
// steps, when a request first needs penalties or lists. Nothing is kept back, so that what an engine has let go of is
// free for other processes.
//
// Two streams that do not wait for each other: `ops` has the ops and the copies of a step, in order; `copies` has
// uploads, downloads and clearing, beside steps. An op is queued only when the copies before it have ended (settle), so
// whoever uploads before it runs an op needs no other order.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "backends/cuda/cublaslt.h"
#include "backends/cuda/runtime.h"
#include "backends/cuda/staging.h"
#include "core/backend.h"

namespace swiftkv::cuda {

class CudaDevice {
 public:
  static Status open(const DeviceOptions& options, std::unique_ptr<CudaDevice>* out);
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  // The calling thread works with this device from now on. Every other member wants that.
  Status use() const { return runtime::use(index_); }

  const DeviceLimits& limits() const { return properties_.limits; }
  Stream ops() const { return ops_; }
  bool batch_invariant() const { return batch_invariant_; }
  Status describe(DeviceInfo* out) const;
  // Multiplies what it takes; null: nothing. Chosen once, when the device is opened; describe() says why.
  CublasLt* lt() const { return lt_.get(); }

  Status allocate(size_t bytes, void** out);
  void release(void* data, size_t bytes);

  // Over when they return.
  Status upload(void* dst, const void* src, size_t bytes);
  Status download(void* dst, const void* src, size_t bytes);
  // Queued: the source may be used again.
  Status pack(const PackParams& params);
  Status unpack(const Matrix& matrix, float* out);

  // Before something is queued on `ops`: until the copies that have been queued have ended.
  Status settle();
  // After an op has been queued: until at most kOpsUnderWay are under way, so that a step that is given up is over
  // soon.
  Status throttle();
  Status enqueue(void* dst, const void* src, size_t bytes);
  Status synchronize();

  // Enough to hide the time of queueing one; a step that is given up runs on for these.
  static constexpr size_t kOpsUnderWay = 4;

 private:
  CudaDevice() = default;
  Status create(const DeviceOptions& options);
  void choose_linear();
  Status out_of_memory(size_t bytes) const;

  int32_t index_ = 0;
  runtime::Properties properties_ = {};
  bool batch_invariant_ = true;
  uint64_t limit_ = 0;  // bytes, 0: none
  std::atomic<uint64_t> used_{0};
  Stream ops_ = nullptr;
  Stream copies_ = nullptr;
  std::atomic<bool> copies_pending_{false};
  std::array<runtime::Event, kOpsUnderWay> passed_ = {};  // the last ops, in turn
  size_t queued_ = 0;
  runtime::Event over_ = nullptr;
  std::unique_ptr<Staging> staging_;
  std::unique_ptr<CublasLt> lt_;
  std::string linear_reason_;
};

}  // namespace swiftkv::cuda
