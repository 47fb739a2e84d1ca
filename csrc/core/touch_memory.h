// Makes all memory of a device resident before the first step, so that no step waits for pages or finds none.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "core/device.h"
#include "core/thread_pool.h"

namespace swiftkv {

class TouchMemory {
 public:
  // What is allocated later is not touched.
  TouchMemory(const std::shared_ptr<OpenDevice>& device, std::shared_ptr<ThreadPool> pool);

  // On the executor's thread, once. Holds no memory any more when it returns. Throws Error(aborted) after cancel().
  void run();
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  // A thread touches this much between two looks at the flag: a few milliseconds.
  static constexpr size_t kPieceBytes = size_t{8} << 20;

 private:
  struct Piece {
    size_t storage, offset;
  };

  std::vector<std::shared_ptr<Storage>> storages_;
  std::vector<Piece> pieces_;
  std::shared_ptr<ThreadPool> pool_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace swiftkv
