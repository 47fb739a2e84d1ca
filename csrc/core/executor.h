// The thread that runs an environment's work, one job after the other, and owns its compute threads.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "core/status.h"
#include "core/thread_pool.h"

namespace swiftkv {

// work runs on the executor's thread and may throw. cancel (may be empty) is called from other threads while work is
// running, maybe more than once; it must be quick and call nothing of the executor. done is called once on the
// executor's thread: null after success; aborted when the job was dropped. An exception that is no Error arrives as
// out_of_memory or internal. done must not throw.
struct Job {
  std::function<void()> work;
  std::function<void()> cancel;
  std::function<void(const Error*)> done;
};

class Executor {
 public:
  Executor();
  ~Executor();  // stop()
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // The pool, with at least `threads` threads from now on. Throws Error.
  std::shared_ptr<ThreadPool> pool(int threads);

  // Jobs of one key run in order; keys take turns, one job each. The thread starts with the first job. Throws Error:
  // aborted after stop(); whatever it throws, the job is not queued and `done` is not called.
  void submit(const void* key, Job job);

  // Runs `work` on the calling thread, alone: waits for the job in flight. Not from inside a job. Throws what work
  // throws.
  void run_here(const std::function<void()>& work);

  // Drops the queued jobs of a key, cancels the running one and returns when it is over. Not from inside a job.
  void drain(const void* key);

  // Drops all queued jobs, cancels the running one and joins. Final and idempotent. Not from inside a job.
  void stop();

 private:
  struct Queue {
    const void* key;
    std::list<Job> jobs;
  };
  void loop();
  void run_first(std::unique_lock<std::mutex>& lock, std::list<Queue>& queues, bool wanted);
  void cancel_running(const std::unique_lock<std::mutex>& lock, const void* key);

  std::shared_ptr<ThreadPool> pool_;
  const Error short_of_memory_, not_begun_;  // made while there is memory
  std::mutex run_mutex_;                     // held by whoever uses the pool

  std::mutex mutex_;  // guards everything below
  std::condition_variable wake_;
  std::condition_variable idle_;
  // Lists, so that jobs are dropped and handed over without allocating: disposal works when memory is short.
  std::list<Queue> queues_;   // front is next; only keys that have jobs
  std::list<Queue> dropped_;  // to be told on the executor's thread
  bool busy_ = false;         // with a job of running_key_
  Job* running_ = nullptr;    // the job that can be cancelled
  const void* running_key_ = nullptr;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace swiftkv
