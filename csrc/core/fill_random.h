// Fills tensors with seeded random values: random weights for tests and benchmarks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/tensor.h"
#include "core/thread_pool.h"

namespace swiftkv {

// Element (row, col) of the tensor, seen as [first dimension, the rest], becomes a uniform value in [-scale, scale)
// that depends on seed, row and col alone, rounded to the dtype (or quantized to it): the same for every layout, thread
// count and machine. Padding of panels stays zero.
class RandomFill {
 public:
  // f32, bf16, f16, or a quantized matrix. Throws Error.
  RandomFill(Tensor tensor, uint64_t seed, float scale, std::shared_ptr<ThreadPool> pool);

  // On the executor's thread. Throws Error(aborted) after cancel().
  void run();
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }

 private:
  template <class T>
  void fill();
  void fill_by_rows();

  Tensor tensor_;
  uint64_t seed_;
  float scale_;
  std::shared_ptr<ThreadPool> pool_;
  int64_t rows_ = 1, cols_ = 1;
  std::atomic<bool> cancelled_{false};
};

}  // namespace swiftkv
