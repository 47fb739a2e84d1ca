// Worker threads that spin briefly for the next run, then park.
//
// `ticket` holds the run's generation, whether it is open, and how many workers are inside. A worker enters by one
// compare-and-swap while the run is open; the caller closes the run once every piece is claimed and waits until nobody
// is inside. A worker that is late (descheduled, waking up) finds the run closed and costs nothing. That the caller has
// parked is a bit of the ticket too: the last worker out learns it from the same operation that takes it out, so no
// order between two variables is needed (QEMU up to at least 7.2 does not keep that of Arm's stlr and ldar on x86, and
// a caller slept for ever there).
#include "core/thread_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/status.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <pthread.h>
#endif

namespace swiftkv {
namespace {

// How long a thread watches for work before it parks: longer than the gap between two ops of a step, shorter than
// anything a user would notice as load.
constexpr std::chrono::microseconds kSpin{40};
constexpr int kPausesPerClock = 16;  // reading the clock costs about as much as a pause

constexpr uint64_t kInsideMask = (1u << 15) - 1;
constexpr uint64_t kOpen = 1u << 15;
constexpr uint64_t kCallerParked = 1u << 16;
constexpr int kGenerationShift = 17;
constexpr int kMaxThreads = 4096;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Polls until condition() or the spin time is over; returns the last answer.
template <class F>
bool spin_until(F&& condition) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPausesPerClock; ++i) {
      if (condition()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return condition();
}

}  // namespace

struct ThreadPool::State {
  struct Worker {
    int index;  // 1, 2, ...: the caller of run() is 0
    std::thread thread;
    std::condition_variable wake;
    bool parked = false;  // guarded by mutex
    uint64_t seen = 0;    // generation last entered; the worker's own
  };

  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<int64_t> next{0};
  // The run, written while it is closed and nobody is inside.
  alignas(64) void (*fn)(void*, int64_t, int) = nullptr;
  void* context = nullptr;
  int64_t pieces = 0;
  std::atomic<int> max_threads{0};

  alignas(64) std::mutex mutex;
  std::atomic<int> parked{0};
  std::atomic<bool> stopping{false};
  std::condition_variable all_out;
  std::exception_ptr error;                      // guarded by mutex
  std::vector<std::unique_ptr<Worker>> workers;  // guarded by mutex
  std::atomic<int> size{1};

  bool wants(const Worker& w, uint64_t t) const {
    return (t & kOpen) != 0 && (t >> kGenerationShift) != w.seen &&
           w.index < max_threads.load(std::memory_order_relaxed);
  }

  void claim(int worker) {
    try {
      for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) fn(context, piece, worker);
    } catch (...) {
      next.store(pieces, std::memory_order_relaxed);
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  // Takes part in the open run, if there is one.
  void join(Worker& w) {
    uint64_t t = ticket.load(std::memory_order_acquire);
    while (wants(w, t)) {
      if (!ticket.compare_exchange_weak(t, t + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      w.seen = t >> kGenerationShift;
      // max_threads may have belonged to an older run than the ticket; now that we are inside it cannot change.
      if (w.index < max_threads.load(std::memory_order_relaxed)) claim(w.index);
      const uint64_t before = ticket.fetch_sub(1, std::memory_order_acq_rel);
      if ((before & kInsideMask) == 1 && (before & kCallerParked) != 0) {
        const std::lock_guard lock(mutex);
        all_out.notify_one();
      }
      return;
    }
  }

  void work(Worker& w) {
    const auto ready = [&](std::memory_order order) { return stopping.load(order) || wants(w, ticket.load(order)); };
    for (;;) {
      if (!spin_until([&] { return ready(std::memory_order_relaxed); })) {
        std::unique_lock lock(mutex);
        w.parked = true;
        // Announced before the ticket is looked at again; run() opens the ticket before it looks for parked workers.
        parked.fetch_add(1, std::memory_order_seq_cst);
        while (!ready(std::memory_order_seq_cst)) w.wake.wait(lock);
        parked.fetch_sub(1, std::memory_order_relaxed);
        w.parked = false;
      }
      if (stopping.load(std::memory_order_acquire)) return;
      join(w);
    }
  }

  void wake_parked(int count) {
    if (parked.load(std::memory_order_seq_cst) == 0) return;
    const std::lock_guard lock(mutex);
    for (const auto& w : workers) {
      if (w->index < count && w->parked) w->wake.notify_one();
    }
  }

  void wait_until_empty() {
    const auto empty = [&] { return (ticket.load(std::memory_order_acquire) & kInsideMask) == 0; };
    if (spin_until(empty)) return;
    std::unique_lock lock(mutex);
    ticket.fetch_or(kCallerParked, std::memory_order_acq_rel);  // the next run's ticket is without it
    while (!empty()) all_out.wait(lock);
  }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping.store(true, std::memory_order_seq_cst);
      for (const auto& w : workers) w->wake.notify_one();
    }
    for (const auto& w : workers) {
      if (w->thread.joinable()) w->thread.join();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  try {
    grow(threads);
  } catch (...) {
    state_->stop();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  state_->stop();
}

int ThreadPool::size() const {
  return state_->size.load(std::memory_order_relaxed);
}

void ThreadPool::grow(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw Error(Code::invalid_argument,
                "Expected 1 to " + std::to_string(kMaxThreads) + " threads but received " + std::to_string(threads));
  }
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  while (size() < threads) {
    auto w = std::make_unique<State::Worker>();
    w->index = size();
    State::Worker* worker = w.get();
    s.workers.push_back(std::move(w));
    try {
      worker->thread = std::thread([&s, worker] { s.work(*worker); });
    } catch (const std::system_error& e) {
      s.workers.pop_back();
      throw Error(Code::out_of_memory, "thread " + std::to_string(size() + 1) + " of " + std::to_string(threads) +
                                           " could not be started: " + e.what());
    } catch (...) {
      s.workers.pop_back();
      throw;
    }
#if defined(__linux__)
    pthread_setname_np(worker->thread.native_handle(), "swiftkv-compute");
#endif
    s.size.fetch_add(1, std::memory_order_relaxed);
  }
}

void ThreadPool::run(int max_threads, int64_t pieces, void (*fn)(void*, int64_t, int), void* context) {
  if (pieces <= 0) return;
  State& s = *state_;
  int64_t count = max_threads < size() ? max_threads : size();
  if (count > pieces) count = pieces;
  if (count <= 1) {
    for (int64_t piece = 0; piece < pieces; ++piece) fn(context, piece, 0);
    return;
  }

  s.fn = fn;
  s.context = context;
  s.pieces = pieces;
  s.next.store(0, std::memory_order_relaxed);
  s.max_threads.store(static_cast<int>(count), std::memory_order_relaxed);
  const uint64_t generation = (s.ticket.load(std::memory_order_relaxed) >> kGenerationShift) + 1;
  s.ticket.store(generation << kGenerationShift | kOpen, std::memory_order_seq_cst);
  s.wake_parked(static_cast<int>(count));

  s.claim(0);
  s.ticket.fetch_and(~kOpen, std::memory_order_seq_cst);
  s.wait_until_empty();

  if (s.error) {  // nobody is inside: it cannot change
    const std::exception_ptr error = std::move(s.error);
    s.error = nullptr;
    std::rethrow_exception(error);
  }
}

}  // namespace swiftkv
