// The thread pool: every piece once, workers apart, and no moment at which it may not be destroyed.
#include <doctest/doctest.h>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/status.h"
#include "core/thread_pool.h"

using swiftkv::Error;
using swiftkv::ThreadPool;

namespace {

void sleep_us(int us) {
  std::this_thread::sleep_for(std::chrono::microseconds(us));
}

}  // namespace

TEST_CASE("thread pool: every piece runs exactly once, also when runs follow runs without a pause") {
  ThreadPool pool(4);
  CHECK(pool.size() == 4);
  for (int64_t pieces : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{3}, int64_t{7}, int64_t{64}, int64_t{1000}}) {
    for (int round = 0; round < 100; ++round) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(pieces));
      pool.parallel_for(4, pieces, [&](int64_t piece, int) { hits[static_cast<size_t>(piece)].fetch_add(1); });
      for (const auto& hit : hits) REQUIRE(hit.load() == 1);
    }
  }
}

TEST_CASE("thread pool: what a run wrote is visible after it, without atomics") {
  ThreadPool pool(3);
  std::vector<int64_t> data(257, 0);
  for (int round = 0; round < 500; ++round) {
    pool.parallel_for(3, 257, [&](int64_t piece, int) { data[static_cast<size_t>(piece)] += piece; });
  }
  for (size_t i = 0; i < data.size(); ++i) CHECK(data[i] == 500 * static_cast<int64_t>(i));
}

TEST_CASE("thread pool: no two threads have one worker index at once, and the cap holds") {
  ThreadPool pool(6);
  for (int cap : {1, 2, 3, 6, 100}) {
    std::vector<std::atomic<int>> inside(6);
    std::atomic<bool> clash{false};
    std::atomic<int> highest{-1};
    for (int round = 0; round < 50; ++round) {
      pool.parallel_for(cap, 40, [&](int64_t, int worker) {
        if (inside[static_cast<size_t>(worker)].fetch_add(1) != 0) clash = true;
        for (int seen = highest.load(); worker > seen && !highest.compare_exchange_weak(seen, worker);) {
        }
        if (round % 10 == 0) sleep_us(20);
        inside[static_cast<size_t>(worker)].fetch_sub(1);
      });
    }
    CHECK_FALSE(clash.load());
    CHECK(highest.load() < std::min(cap, 6));
  }
}

TEST_CASE("thread pool: pieces are claimed in ascending order") {
  ThreadPool pool(3);
  std::mutex mutex;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::vector<int64_t>> by_worker(3);
    pool.parallel_for(3, 50,
                      [&](int64_t piece, int worker) { by_worker[static_cast<size_t>(worker)].push_back(piece); });
    for (const auto& pieces : by_worker) {
      for (size_t i = 1; i < pieces.size(); ++i) REQUIRE(pieces[i] > pieces[i - 1]);
    }
  }
}

TEST_CASE("thread pool: a thread that is stuck in its piece delays only that piece") {
  ThreadPool pool(2);
  // Piece 0 ends only once all the others have run: they must go to whoever is free.
  std::atomic<int> others{0};
  pool.parallel_for(2, 64, [&](int64_t piece, int) {
    if (piece == 0) {
      while (others.load() < 63) std::this_thread::yield();
    } else {
      others.fetch_add(1);
    }
  });
  CHECK(others.load() == 63);
}

TEST_CASE("thread pool: threads that have parked come back") {
  ThreadPool pool(3);
  for (int round = 0; round < 30; ++round) {
    sleep_us(300);  // longer than the spin
    // All three must arrive before any may leave.
    std::atomic<int> arrived{0};
    std::set<std::thread::id> ids;
    std::mutex mutex;
    pool.parallel_for(3, 3, [&](int64_t, int) {
      {
        const std::lock_guard lock(mutex);
        ids.insert(std::this_thread::get_id());
      }
      arrived.fetch_add(1);
      while (arrived.load() < 3) std::this_thread::yield();
    });
    CHECK(ids.size() == 3);
  }
}

// The caller parks after its spin of 40 us; pieces that end around then find every order of "I sleep" and "I leave".
TEST_CASE("thread pool: a caller that parks while the last worker leaves is woken") {
  using Clock = std::chrono::steady_clock;
  const auto spin_until = [](auto&& done, std::chrono::nanoseconds at_most) {
    for (const auto end = Clock::now() + at_most; !done() && Clock::now() < end;) {
    }
  };
  ThreadPool pool(2);
  std::atomic<int> left{0};
  const int rounds = 20000;
  for (int round = 0; round < rounds; ++round) {
    std::atomic<bool> inside{false};
    pool.parallel_for(2, 2, [&](int64_t, int worker) {
      if (worker == 0) {  // leaves the other piece to the worker, if it comes
        spin_until([&] { return inside.load(); }, std::chrono::microseconds(200));
      } else {
        inside.store(true);
        spin_until([] { return false; }, std::chrono::nanoseconds(30'000 + round * 7919 % 60'000));
      }
      left.fetch_add(1);
    });
  }
  CHECK(left.load() == 2 * rounds);
}

TEST_CASE("thread pool: thousands of tiny runs with caps that change") {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  int64_t expected = 0;
  for (int round = 0; round < 5000; ++round) {
    const int cap = 1 + round % 4;
    const int64_t pieces = round % 6;
    pool.parallel_for(cap, pieces, [&](int64_t piece, int) { sum.fetch_add(piece + 1); });
    expected += pieces * (pieces + 1) / 2;
  }
  CHECK(sum.load() == expected);
}

TEST_CASE("thread pool: destruction at every moment") {
  for (int delay : {0, 1, 5, 20, 40, 60, 200}) {
    for (int threads : {1, 2, 5}) {
      {
        ThreadPool idle(threads);
        sleep_us(delay);
      }
      auto pool = std::make_unique<ThreadPool>(threads);
      std::atomic<int> hits{0};
      pool->parallel_for(threads, 3, [&](int64_t, int) { hits.fetch_add(1); });
      sleep_us(delay);
      pool.reset();
      CHECK(hits.load() == 3);
    }
  }
}

TEST_CASE("thread pool: it grows while a run is in flight") {
  ThreadPool pool(2);
  std::thread grower([&] {
    for (int n = 3; n <= 6; ++n) {
      pool.grow(n);
      sleep_us(50);
    }
  });
  std::atomic<int64_t> hits{0};
  for (int round = 0; round < 300; ++round) pool.parallel_for(6, 8, [&](int64_t, int) { hits.fetch_add(1); });
  grower.join();
  CHECK(hits.load() == 300 * 8);
  CHECK(pool.size() == 6);
  pool.grow(3);  // never shrinks
  CHECK(pool.size() == 6);
}

TEST_CASE("thread pool: an exception in a piece ends the run and arrives at the caller; the pool goes on") {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    const auto thrower = [&](int64_t piece, int) {
      if (piece == 5) throw std::runtime_error("piece five");
    };
    CHECK_THROWS_WITH_AS(pool.parallel_for(3, 100, thrower), "piece five", std::runtime_error);
    CHECK_THROWS_AS(pool.parallel_for(1, 100, thrower), std::runtime_error);
    std::atomic<int> hits{0};
    pool.parallel_for(3, 10, [&](int64_t, int) { hits.fetch_add(1); });
    CHECK(hits.load() == 10);
  }
}

TEST_CASE("thread pool: numbers of threads that make no sense are refused") {
  CHECK_THROWS_AS(ThreadPool(0), Error);
  CHECK_THROWS_AS(ThreadPool(-3), Error);
  CHECK_THROWS_AS(ThreadPool(1000000), Error);
}
