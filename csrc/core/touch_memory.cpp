#include "core/touch_memory.h"

#include <algorithm>
#include <utility>

namespace swiftkv {

TouchMemory::TouchMemory(const std::shared_ptr<OpenDevice>& device, std::shared_ptr<ThreadPool> pool)
    : pool_(std::move(pool)) {
  if (!device->host_memory()) return;  // resident from the start
  storages_ = device->storages();
  for (size_t i = 0; i < storages_.size(); ++i) {
    for (size_t at = 0; at < storages_[i]->bytes(); at += kPieceBytes) pieces_.push_back({i, at});
  }
}

void TouchMemory::run() {
  // Let go when this returns, before anybody hears that it is done: memory disposed of then is freed at once.
  const std::vector<std::shared_ptr<Storage>> storages = std::move(storages_);
  if (pieces_.empty()) return;
  const OpenDevice& device = *storages[0]->device();
  pool_->parallel_for(device.threads(), static_cast<int64_t>(pieces_.size()), [&](int64_t piece, int) {
    if (cancelled_.load(std::memory_order_relaxed)) return;
    const auto [index, offset] = pieces_[static_cast<size_t>(piece)];
    const Storage& storage = *storages[index];
    const size_t bytes = std::min(kPieceBytes, storage.bytes() - offset);
    device.table().touch(device.handle(), storage.data() + offset, bytes);
  });
  if (cancelled_.load(std::memory_order_relaxed)) throw Error(Code::aborted, "touching memory was cancelled");
}

}  // namespace swiftkv
