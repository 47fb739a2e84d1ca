// Who owns device memory, and what close() does to it.
#include "core/device.h"

#include <string>
#include <utility>

#include "core/thread_pool.h"

namespace swiftkv {

Storage::Storage(std::shared_ptr<OpenDevice> device, std::byte* data, size_t bytes, MemoryPart part)
    : device_(std::move(device)), data_(data), bytes_(bytes), part_(part) {}

Storage::~Storage() {
  device_->release(*this);
}

OpenDevice::OpenDevice(const BackendTable& table, int32_t threads, std::shared_ptr<ThreadPool> pool,
                       std::shared_ptr<void> library, std::shared_ptr<MemoryUse> whole)
    : table_(table),
      threads_(threads),
      pool_(std::move(pool)),
      library_(std::move(library)),
      memory_(std::make_shared<MemoryUse>(std::move(whole))) {}

std::shared_ptr<OpenDevice> OpenDevice::open(const BackendTable& table, int32_t level, int32_t threads,
                                             std::shared_ptr<ThreadPool> pool, std::shared_ptr<void> library,
                                             std::shared_ptr<MemoryUse> whole, const DeviceChoices& choices) {
  if (threads < 1 || pool == nullptr || pool->size() < threads) {
    throw Error(Code::invalid_argument, "Expected a number of threads that the pool has for the device but received " +
                                            std::to_string(threads));
  }
  std::shared_ptr<OpenDevice> device(
      new OpenDevice(table, threads, std::move(pool), std::move(library), std::move(whole)));
  const DeviceOptions options = {.pool = device->pool_.get(),
                                 .threads = threads,
                                 .level = level,
                                 .batch_invariant = choices.batch_invariant,
                                 .memory_limit = choices.memory_limit};
  check(table.open(&options, &device->handle_));
  return device;
}

OpenDevice::~OpenDevice() {
  close();  // no storage is left: each holds a reference to the device
  if (handle_ != nullptr) table_.close(handle_);
}

std::shared_ptr<Storage> OpenDevice::allocate(size_t bytes, MemoryPart part) {
  require_open();
  void* data = nullptr;
  if (bytes > 0) check(table_.allocate(handle_, bytes, &data));
  std::shared_ptr<Storage> storage;
  try {
    storage.reset(new Storage(shared_from_this(), static_cast<std::byte*>(data), bytes, part));
  } catch (...) {
    if (data != nullptr) table_.release(handle_, data, bytes);
    throw;
  }
  const std::lock_guard lock(mutex_);
  require_open();
  living_.insert(storage.get());
  memory_->add(part, bytes);
  return storage;
}

void* OpenDevice::allocate_host(size_t bytes) {
  void* data = nullptr;
  check(table_.allocate_host(handle_, bytes, &data));
  return data;
}

void OpenDevice::release_host(void* data, size_t bytes) noexcept {
  table_.release_host(handle_, data, bytes);
}

std::vector<std::shared_ptr<Storage>> OpenDevice::storages() {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Storage>> all;
  all.reserve(living_.size());
  for (Storage* storage : living_) {
    // One whose last owner has just let go waits for the lock to leave.
    if (auto alive = storage->weak_from_this().lock()) all.push_back(std::move(alive));
  }
  return all;
}

void OpenDevice::release(Storage& storage) noexcept {
  const std::lock_guard lock(mutex_);
  if (living_.erase(&storage) > 0) memory_->remove(storage.part_, storage.bytes_);
  std::byte* data = storage.data_.exchange(nullptr, std::memory_order_acq_rel);
  if (data != nullptr) table_.release(handle_, data, storage.bytes_);
}

std::byte* OpenDevice::scratch(size_t bytes) {
  const std::lock_guard lock(mutex_);
  require_open();
  if (bytes > scratch_bytes_) {
    release_scratch();
    check(table_.allocate(handle_, bytes, &scratch_));
    scratch_bytes_ = bytes;
    memory_->add(MemoryPart::scratch, bytes);
  }
  return static_cast<std::byte*>(scratch_);
}

void OpenDevice::release_scratch() noexcept {
  if (scratch_ != nullptr) table_.release(handle_, scratch_, scratch_bytes_);
  memory_->remove(MemoryPart::scratch, scratch_bytes_);
  scratch_ = nullptr;
  scratch_bytes_ = 0;
}

void OpenDevice::close() {
  const std::lock_guard lock(mutex_);
  closed_.store(true, std::memory_order_release);
  for (Storage* storage : living_) {
    std::byte* data = storage->data_.exchange(nullptr, std::memory_order_acq_rel);
    if (data != nullptr) table_.release(handle_, data, storage->bytes_);
    memory_->remove(storage->part_, storage->bytes_);
  }
  living_.clear();
  release_scratch();
}

void OpenDevice::require_open() const {
  if (closed()) throw Error(Code::disposed, std::string("the ") + table_.name + " device has been closed");
}

}  // namespace swiftkv
