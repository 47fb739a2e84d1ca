// The threads that compute. One pool per environment; engines share it, a step at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace swiftkv {

class ThreadPool {
 public:
  // `threads` counts the caller of run(), so threads - 1 are started. Throws Error when one cannot be started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  // Starts threads until size() is `threads`; a run in flight does not notice. Throws Error when one cannot be started.
  void grow(int threads);

  // Calls fn(context, piece, worker) once for every piece in [0, pieces), on the calling thread and up to
  // max_threads - 1 others, and returns when all are done. Pieces are claimed in ascending order, one at a time; worker
  // is in [0, max_threads) and no two threads have the same one at once. One run at a time (the executor's). The first
  // exception that fn throws ends the run early and is thrown again here.
  void run(int max_threads, int64_t pieces, void (*fn)(void* context, int64_t piece, int worker), void* context);

  template <class F>
  void parallel_for(int max_threads, int64_t pieces, F&& f) {
    using Fn = std::remove_reference_t<F>;
    run(
        max_threads, pieces, [](void* c, int64_t piece, int worker) { (*static_cast<Fn*>(c))(piece, worker); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace swiftkv
