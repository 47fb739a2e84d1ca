// The job loop: whose turn it is, and how jobs end early.
#include "core/executor.h"

#include <algorithm>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <system_error>

#if defined(__linux__)
#include <pthread.h>
#endif

namespace swiftkv {
namespace {

Error out_of_memory() {
  return Error(Code::out_of_memory, "memory could not be allocated");
}

// Saying what went wrong takes memory too; `short_of_memory` is what is said when there is none.
std::optional<Error> run_caught(const std::function<void()>& work, const Error& short_of_memory) noexcept {
  try {
    try {
      work();
      return std::nullopt;
    } catch (const Error& e) {
      return e;
    } catch (const std::bad_alloc&) {
      return short_of_memory;
    } catch (const std::exception& e) {
      return Error(Code::internal, std::string("unexpected exception: ") + e.what());
    } catch (...) {
      return Error(Code::internal, "unexpected exception of unknown type");
    }
  } catch (...) {
    return short_of_memory;  // copying an Error shares its text
  }
}

}  // namespace

Executor::Executor()
    : pool_(std::make_shared<ThreadPool>(1)),
      short_of_memory_(out_of_memory()),
      not_begun_(Code::aborted, "the work was dropped before it began") {}

Executor::~Executor() {
  stop();
}

std::shared_ptr<ThreadPool> Executor::pool(int threads) {
  pool_->grow(std::max(threads, 1));
  return pool_;
}

void Executor::submit(const void* key, Job job) {
  const std::lock_guard lock(mutex_);
  if (stopping_) throw Error(Code::aborted, "the environment is shutting down: no more work is accepted");
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { loop(); });
    } catch (const std::system_error& e) {
      throw Error(Code::out_of_memory, std::string("the executor thread could not be started: ") + e.what());
    }
  }
  std::list<Queue> added(1);
  added.front().key = key;
  added.front().jobs.push_back(std::move(job));
  // From here on nothing throws: a queue without jobs must not stay.
  const auto queue = std::find_if(queues_.begin(), queues_.end(), [&](const Queue& q) { return q.key == key; });
  if (queue == queues_.end()) {
    queues_.splice(queues_.end(), added);
  } else {
    queue->jobs.splice(queue->jobs.end(), added.front().jobs);
  }
  wake_.notify_one();
}

void Executor::run_here(const std::function<void()>& work) {
  const std::lock_guard alone(run_mutex_);
  work();
}

void Executor::drain(const void* key) {
  std::unique_lock lock(mutex_);
  for (auto queue = queues_.begin(); queue != queues_.end(); ++queue) {
    if (queue->key != key) continue;
    dropped_.splice(dropped_.end(), queues_, queue);
    wake_.notify_one();
    break;
  }
  cancel_running(lock, key);
  idle_.wait(lock, [&] {
    return (!busy_ || running_key_ != key) &&
           std::none_of(dropped_.begin(), dropped_.end(), [&](const Queue& q) { return q.key == key; });
  });
}

void Executor::stop() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    dropped_.splice(dropped_.end(), queues_);
    wake_.notify_one();
    if (running_ != nullptr) cancel_running(lock, running_key_);
  }
  if (thread_.joinable()) thread_.join();
}

// The lock stays held: it keeps the job alive while it is told.
void Executor::cancel_running(const std::unique_lock<std::mutex>&, const void* key) {
  if (running_ != nullptr && running_key_ == key && running_->cancel) running_->cancel();
}

void Executor::loop() {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "swiftkv-exec");
#endif
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stopping_ || !dropped_.empty() || !queues_.empty(); });
    if (!dropped_.empty()) {
      run_first(lock, dropped_, false);
    } else if (!queues_.empty()) {
      run_first(lock, queues_, true);
    } else {
      return;
    }
  }
}

// The front key gives one job and goes to the back.
void Executor::run_first(std::unique_lock<std::mutex>& lock, std::list<Queue>& queues, bool wanted) {
  std::list<Job> taken;
  const void* key = queues.front().key;
  taken.splice(taken.begin(), queues.front().jobs, queues.front().jobs.begin());
  busy_ = true;
  running_ = &taken.front();
  running_key_ = key;
  if (queues.front().jobs.empty()) {
    queues.pop_front();
  } else {
    queues.splice(queues.end(), queues, queues.begin());
  }
  lock.unlock();
  const Job& job = taken.front();
  std::optional<Error> error;
  if (wanted) {
    const std::lock_guard alone(run_mutex_);
    error = run_caught(job.work, short_of_memory_);
  } else {
    error = not_begun_;
  }
  run_caught(
      [&] {
        if (job.done) job.done(error ? &*error : nullptr);
      },
      short_of_memory_);
  lock.lock();
  running_ = nullptr;
  lock.unlock();
  taken.clear();  // what it held is let go before drain() returns, and outside the lock
  lock.lock();
  busy_ = false;
  idle_.notify_all();
}

}  // namespace swiftkv
