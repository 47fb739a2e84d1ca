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

std::optional<Error> run_caught(const std::function<void()>& work) {
  try {
    work();
    return std::nullopt;
  } catch (const Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return Error(Code::out_of_memory, "memory could not be allocated");
  } catch (const std::exception& e) {
    return Error(Code::internal, std::string("unexpected exception: ") + e.what());
  } catch (...) {
    return Error(Code::internal, "unexpected exception of unknown type");
  }
}

}  // namespace

Executor::Executor() : pool_(std::make_shared<ThreadPool>(1)) {}

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
  auto queue = std::find_if(queues_.begin(), queues_.end(), [&](const Queue& q) { return q.key == key; });
  if (queue == queues_.end()) queue = queues_.insert(queues_.end(), Queue{key, {}});
  queue->jobs.push_back(std::move(job));
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
    for (Job& job : queue->jobs) dropped_.push_back({key, std::move(job)});
    queues_.erase(queue);
    wake_.notify_one();
    break;
  }
  cancel_running(lock, key);
  idle_.wait(lock, [&] {
    return (!busy_ || running_key_ != key) &&
           std::none_of(dropped_.begin(), dropped_.end(), [&](const Dropped& d) { return d.key == key; });
  });
}

void Executor::stop() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    for (Queue& queue : queues_) {
      for (Job& job : queue.jobs) dropped_.push_back({queue.key, std::move(job)});
    }
    queues_.clear();
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
      Job job = std::move(dropped_.front().job);
      const void* key = dropped_.front().key;
      dropped_.pop_front();
      run_one(lock, key, job, false);
    } else if (!queues_.empty()) {
      // The front key gives one job and goes to the back.
      Job job = std::move(queues_.front().jobs.front());
      const void* key = queues_.front().key;
      queues_.front().jobs.pop_front();
      if (queues_.front().jobs.empty()) {
        queues_.pop_front();
      } else {
        queues_.splice(queues_.end(), queues_, queues_.begin());
      }
      run_one(lock, key, job, true);
    } else {
      return;
    }
  }
}

void Executor::run_one(std::unique_lock<std::mutex>& lock, const void* key, Job& job, bool wanted) {
  busy_ = true;
  running_ = &job;
  running_key_ = key;
  lock.unlock();
  std::optional<Error> error;
  if (wanted) {
    const std::lock_guard alone(run_mutex_);
    error = run_caught(job.work);
  } else {
    error = Error(Code::aborted, "the work was dropped before it began");
  }
  run_caught([&] {
    if (job.done) job.done(error ? &*error : nullptr);
  });
  lock.lock();
  running_ = nullptr;
  lock.unlock();
  job = Job{};  // what it held is let go before drain() returns, and outside the lock
  lock.lock();
  busy_ = false;
  idle_.notify_all();
}

}  // namespace swiftkv
