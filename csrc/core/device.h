// An opened backend and the memory taken from it. Storage is shared: whoever uses memory holds a reference, so a handle
// may be disposed of while a step still reads it.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "core/backend.h"
#include "core/memory_use.h"

namespace swiftkv {

class OpenDevice;

// One piece of device memory, 64-byte aligned. Zero bytes have no memory behind them.
class Storage : public std::enable_shared_from_this<Storage> {
 public:
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  // Null when empty, and once the device has been closed.
  std::byte* data() const { return data_.load(std::memory_order_acquire); }
  size_t bytes() const { return bytes_; }
  MemoryPart part() const { return part_; }
  const std::shared_ptr<OpenDevice>& device() const { return device_; }

 private:
  friend class OpenDevice;
  Storage(std::shared_ptr<OpenDevice> device, std::byte* data, size_t bytes, MemoryPart part);

  std::shared_ptr<OpenDevice> device_;
  std::atomic<std::byte*> data_;
  size_t bytes_;
  MemoryPart part_;
};

// What a device may be asked for when it is opened; see DeviceOptions.
struct DeviceChoices {
  bool batch_invariant = true;
  uint64_t memory_limit = 0;
};

class OpenDevice : public std::enable_shared_from_this<OpenDevice> {
 public:
  // `pool` must have at least `threads` threads; `library` keeps a side library loaded (null for a built-in backend);
  // what the device holds counts in `whole` too, if given. Throws Error.
  static std::shared_ptr<OpenDevice> open(const BackendTable& table, int32_t level, int32_t threads,
                                          std::shared_ptr<ThreadPool> pool, std::shared_ptr<void> library = nullptr,
                                          std::shared_ptr<MemoryUse> whole = nullptr,
                                          const DeviceChoices& choices = {});
  ~OpenDevice();
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;

  const BackendTable& table() const { return table_; }
  Device* handle() const { return handle_; }
  int32_t threads() const { return threads_; }
  // Bytes that all living Storage of this device holds.
  size_t allocated_bytes() const {
    return memory_->total() - memory_->bytes(MemoryPart::batches) - memory_->bytes(MemoryPart::scratch);
  }
  // All that is held for this device, batches and scratch included.
  const std::shared_ptr<MemoryUse>& memory() const { return memory_; }
  bool closed() const { return closed_.load(std::memory_order_acquire); }

  // Zero-filled; resident once written, or after TouchMemory. Throws Error: out_of_memory, or disposed after close().
  std::shared_ptr<Storage> allocate(size_t bytes, MemoryPart part = MemoryPart::tensors);

  // Whether batches are read where they are: else a step works on an image of them.
  bool host_memory() const { return table_.host_memory; }

  // Zero-filled host memory for batches: pinned where device memory is not the host's. May outlive close(). Throws
  // Error(out_of_memory).
  void* allocate_host(size_t bytes);
  void release_host(void* data, size_t bytes) noexcept;

  // All living memory of the device now.
  std::vector<std::shared_ptr<Storage>> storages();

  // Memory for an op that runs alone, at least `bytes`, with anything in it. Kept from call to call and not counted in
  // allocated_bytes(): mapping it anew takes longer than many ops. For whoever may use the pool. Throws Error:
  // out_of_memory, or disposed after close().
  std::byte* scratch(size_t bytes);

  // Releases all memory of the device at once; Storage objects become empty. The caller has first made sure that
  // nothing of the device is running (Executor::drain). Idempotent.
  void close();

  // Throws Error(disposed) after close().
  void require_open() const;

 private:
  OpenDevice(const BackendTable& table, int32_t threads, std::shared_ptr<ThreadPool> pool,
             std::shared_ptr<void> library, std::shared_ptr<MemoryUse> whole);
  friend class Storage;
  void release(Storage& storage) noexcept;
  void release_scratch() noexcept;

  const BackendTable& table_;
  Device* handle_ = nullptr;
  int32_t threads_;
  std::shared_ptr<ThreadPool> pool_;
  std::shared_ptr<void> library_;
  std::shared_ptr<MemoryUse> memory_;
  std::atomic<bool> closed_{false};
  std::mutex mutex_;  // guards living_ and the hand-over of memory between release and close
  std::unordered_set<Storage*> living_;
  void* scratch_ = nullptr;
  size_t scratch_bytes_ = 0;
};

}  // namespace swiftkv
