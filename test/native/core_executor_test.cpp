// The executor: order, fairness between keys, and an end at any time.
#include <doctest/doctest.h>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "core/executor.h"

using namespace swiftkv;

namespace {

// Something the test opens and jobs wait for.
class Gate {
 public:
  void open() { promise_.set_value(); }
  void wait() const { future_.wait(); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_{promise_.get_future()};
};

struct Log {
  std::mutex mutex;
  std::vector<std::string> entries;

  void add(const std::string& entry) {
    const std::lock_guard lock(mutex);
    entries.push_back(entry);
  }
  std::vector<std::string> all() {
    const std::lock_guard lock(mutex);
    return entries;
  }
};

Job job_of(std::function<void()> work, std::function<void(const Error*)> done, std::function<void()> cancel = {}) {
  Job job;
  job.work = std::move(work);
  job.cancel = std::move(cancel);
  job.done = std::move(done);
  return job;
}

}  // namespace

TEST_CASE("executor: keys take turns, one job each; jobs of a key keep their order") {
  Executor executor;
  Gate gate, begun;
  Log log;
  std::promise<void> last;
  const int a = 0, b = 0, c = 0;
  executor.submit(&a, job_of(
                          [&] {
                            begun.open();
                            gate.wait();
                          },
                          [](const Error*) {}));
  begun.wait();
  const auto add = [&](const void* key, const std::string& name) {
    executor.submit(key, job_of([&log, name] { log.add(name); }, [](const Error*) {}));
  };
  for (const char* name : {"a1", "a2", "a3", "a4"}) add(&a, name);
  add(&b, "b1");
  add(&b, "b2");
  add(&c, "c1");
  executor.submit(&a, job_of([&] { log.add("a5"); }, [&](const Error*) { last.set_value(); }));
  gate.open();
  last.get_future().wait();
  CHECK(log.all() == std::vector<std::string>{"a1", "b1", "c1", "a2", "b2", "a3", "a4", "a5"});
}

TEST_CASE("executor: every exception becomes a coded error, and the next job runs") {
  Executor executor;
  std::mutex mutex;
  std::vector<std::pair<Code, std::string>> seen;
  std::promise<void> last;
  const int key = 0;
  const auto record = [&](const Error* e) {
    const std::lock_guard lock(mutex);
    seen.emplace_back(e == nullptr ? Code::ok : e->code, e == nullptr ? "" : e->what());
  };
  executor.submit(&key, job_of([] { throw Error(Code::numeric, "not a number"); }, record));
  executor.submit(&key, job_of([] { throw std::bad_alloc(); }, record));
  executor.submit(&key, job_of([] { throw std::runtime_error("surprise"); }, record));
  executor.submit(&key, job_of([] { throw 5; }, record));
  executor.submit(&key, job_of([] {},
                               [&](const Error* e) {
                                 record(e);
                                 last.set_value();
                               }));
  last.get_future().wait();
  REQUIRE(seen.size() == 5);
  CHECK(seen[0] == std::pair{Code::numeric, std::string("not a number")});
  CHECK(seen[1].first == Code::out_of_memory);
  CHECK(seen[2] == std::pair{Code::internal, std::string("unexpected exception: surprise")});
  CHECK(seen[3].first == Code::internal);
  CHECK(seen[4].first == Code::ok);
}

TEST_CASE("executor: a done that throws harms nobody behind it") {
  Executor executor;
  std::promise<void> last;
  const int key = 0;
  executor.submit(&key, job_of([] {}, [](const Error*) { throw std::bad_alloc(); }));
  executor.submit(&key, job_of([] { throw std::bad_alloc(); }, [](const Error*) { throw 5; }));
  executor.submit(&key, job_of([] {}, [&](const Error*) { last.set_value(); }));
  last.get_future().wait();
  executor.drain(&key);
}

TEST_CASE("executor: stop cancels the job in flight and drops the queue; each job is told exactly once") {
  for (int delay_us : {0, 10, 100, 1000}) {
    Executor executor;
    std::atomic<bool> cancelled{false};
    std::atomic<int> told{0};
    std::atomic<int> aborted{0};
    const int a = 0, b = 0;
    const auto done = [&](const Error* e) {
      told.fetch_add(1);
      if (e != nullptr && e->code == Code::aborted) aborted.fetch_add(1);
    };
    executor.submit(&a, job_of(
                            [&] {
                              while (!cancelled.load()) std::this_thread::yield();
                              throw Error(Code::aborted, "cancelled");
                            },
                            done, [&] { cancelled = true; }));
    for (int i = 0; i < 5; ++i) executor.submit(i % 2 ? &a : &b, job_of([] {}, done));
    std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
    executor.stop();
    CHECK(told.load() == 6);
    CHECK(aborted.load() == 6);
    CHECK_THROWS_AS(executor.submit(&a, job_of([] {}, done)), Error);
    executor.stop();
    CHECK(told.load() == 6);
  }
}

TEST_CASE("executor: one that never had a job, or is destroyed while busy, ends cleanly") {
  {
    Executor idle;
  }
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> told{0};
    {
      Executor executor;
      const int key = 0;
      for (int i = 0; i < round % 5; ++i) {
        executor.submit(&key, job_of([] {}, [&](const Error*) { told.fetch_add(1); }));
      }
    }
    CHECK(told.load() == round % 5);
  }
}

TEST_CASE("executor: drain ends one key's work and leaves the others") {
  Executor executor;
  std::atomic<bool> cancelled{false};
  std::atomic<int> told_a{0};
  std::promise<void> b_done;
  const int a = 0, b = 0;
  const auto held = std::make_shared<int>(7);
  executor.submit(&a, job_of(
                          [&, held] {
                            while (!cancelled.load()) std::this_thread::yield();
                          },
                          [&](const Error*) { told_a.fetch_add(1); }, [&] { cancelled = true; }));
  for (int i = 0; i < 3; ++i) {
    executor.submit(&a, job_of([held] {},
                               [&](const Error* e) {
                                 CHECK(e != nullptr);
                                 told_a.fetch_add(1);
                               }));
  }
  executor.submit(&b, job_of([] {},
                             [&](const Error* e) {
                               CHECK(e == nullptr);
                               b_done.set_value();
                             }));
  executor.drain(&a);
  CHECK(told_a.load() == 4);
  CHECK(held.use_count() == 1);  // nothing that the jobs held outlives drain()
  b_done.get_future().wait();
  executor.drain(&a);  // nothing there: returns at once
}

TEST_CASE("executor: the pool has one user, whichever thread the work runs on") {
  Executor executor;
  const auto pool = executor.pool(3);
  std::atomic<int> users{0};
  std::atomic<bool> clash{false};
  std::atomic<int> finished{0};
  const int key = 0;
  const auto work = [&] {
    if (users.fetch_add(1) != 0) clash = true;
    pool->parallel_for(3, 8, [](int64_t, int) {});
    users.fetch_sub(1);
  };
  for (int i = 0; i < 100; ++i) {
    executor.submit(&key, job_of(work, [&](const Error*) { finished.fetch_add(1); }));
    executor.run_here(work);
  }
  while (finished.load() < 100) std::this_thread::yield();
  CHECK_FALSE(clash.load());
}

TEST_CASE("executor: run_here throws what the work throws and leaves the executor usable") {
  Executor executor;
  CHECK_THROWS_AS(executor.run_here([] { throw Error(Code::invalid_argument, "no"); }), Error);
  bool ran = false;
  executor.run_here([&] { ran = true; });
  CHECK(ran);
}

TEST_CASE("executor: the pool outlives the executor for those who hold it") {
  std::shared_ptr<ThreadPool> pool;
  {
    Executor executor;
    pool = executor.pool(2);
    CHECK(executor.pool(3) == pool);
  }
  std::atomic<int> hits{0};
  pool->parallel_for(3, 5, [&](int64_t, int) { hits.fetch_add(1); });
  CHECK(hits.load() == 5);
}
