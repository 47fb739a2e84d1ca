// The state of the block that runs: its threads, warps, barriers and copies. Only the executor's sources include this.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/simt/executor.h"
#include "backends/simt/fiber.h"
#include "backends/simt/own_memory.h"
#include "backends/simt/sanitizers.h"
#include "backends/simt/schedule.h"

namespace swiftkv::simt {

inline constexpr int kMaxThreads = 1024;
inline constexpr int kLanes = 32;
inline constexpr int kMaxWarps = kMaxThreads / kLanes;
inline constexpr int kWarpsOfGroup = 4;  // of a warpgroup
inline constexpr int kNamedBarriers = 16;
inline constexpr int kMaxStaticShared = 16;
inline constexpr size_t kSharedWindow = 227 * 1024;  // what a block of sm_90 may have
inline constexpr size_t kCopyUnit = 16;
inline constexpr uint32_t kMaxProducts = 128;  // of a warpgroup under way

// A copy that was asked for and has not landed.
struct Copy {
  unsigned char* dst;
  const void* src;
  int bytes;
  bool valid;
  uint32_t group;
};

struct Thread {
  Fiber fiber;
  uint3 index;
  int number, warp, lane;
  bool exited;
  const char* waits_for;  // null while it can run
  Site site;              // of what it waits for
  List<Copy> copies;
  uint32_t groups;           // committed so far
  const uint64_t* mbarrier;  // that it waits for
  uint32_t parity;
};

// An object that ThreadSanitizer orders by. Two in turn: with one, a thread that runs ahead would seem ordered before
// threads that have not left yet.
struct SyncPair {
  char object[2];
};

// Lanes on their way into one collective of a warp.
struct Gathering {
  bool open;
  Op op;
  uint32_t mask, arrived;
  uint32_t generation;
  Site site;
  void* arguments[kLanes];
  SyncPair sync;
};

struct Warp {
  Gathering slots[kLanes];
  int open;          // slots in use
  uint32_t present;  // lanes that exist
  uint32_t exited;
};

struct Barrier {
  int expected, arrived, predicates;
  Reduction reduction;
  uint32_t generation;
  int result[2];
  Site site;
  uint16_t waiting[kMaxThreads];
  int waiting_count;
  SyncPair sync;
};

// A copy by the bulk engine, which no thread owns.
struct BulkCopy {
  unsigned char* dst;
  const unsigned char* src;
  uint32_t bytes;
  uint64_t* mbarrier;
  int thread;
  Site site;
};

struct FreshMbarrier {
  const uint64_t* barrier;
  int thread;
};

// A product of a warpgroup that was asked for and is not computed yet.
struct Product {
  int n;
  bool accumulate, a_in_registers, transposed_a, transposed_b;
  bool chained;  // its sums are the results of an earlier one under way
  uint64_t a, b;
  uint32_t group;
  float* d[kLanes * kWarpsOfGroup];
  List<float> sums;        // [128][n / 2], as they were when it was asked for
  List<uint32_t> a_lanes;  // [128][4]
};

struct Wgmma;
struct Warpgroup {
  Op op;
  Site site;
  int arrived;
  const Wgmma* arguments[kLanes * kWarpsOfGroup];
  bool fenced;
  Product products[kMaxProducts];  // a ring
  uint32_t first_product, product_count;
  uint32_t groups;
};

struct Random {
  uint64_t state = 0;
  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(((next() >> 32) * n) >> 32); }
  bool one_in(uint32_t n) { return below(n) == 0; }
};

struct Block {
  Fiber main;
  Thread threads[kMaxThreads];
  Warp warps[kMaxWarps];
  Barrier barriers[kNamedBarriers];
  Warpgroup warpgroups[kMaxWarps / kWarpsOfGroup];
  List<BulkCopy> bulk;
  Random random;
  Schedule schedule;

  const Grid* grid;
  int thread_count, exited;
  Thread* current;  // null on the thread that launched

  uint16_t ready[kMaxThreads];  // a ring
  int ready_first, ready_count;

  bool failed;
  char began, ended;  // ThreadSanitizer's objects of the edges of a block

  const void* static_shared[kMaxStaticShared];  // variables that threads of this block came to
  int static_shared_count;

  // Thread that copied into 16 bytes by cp.async and has not fenced since, + 1; for the asynchronous proxy.
  uint16_t unfenced[kSharedWindow / kCopyUnit];
  bool any_unfenced;
  bool proxy_in_use;
  List<FreshMbarrier> fresh_mbarriers;  // initialised and not fenced
};

extern Block block;
extern Statistics counters;
// Dynamic shared memory, and what of it the asynchronous proxy sees.
extern unsigned char arena[];
extern unsigned char proxy_view[];
inline constexpr size_t kGuard = 1024;  // behind the arena
inline constexpr unsigned char kGuardByte = 0xa5;

// Makes a thread ready to run.
void wake(Thread& thread);
// Makes several ready, in the order of the schedule.
void wake_all(const uint16_t* numbers, int count);
// Runs others until this thread is woken.
void suspend(const char* waits_for, const Site& site);
// Lets others run; only in random order.
void maybe_yield();

// Back to the launch, for good.
[[noreturn]] void leave_block();
void forget_failure();
// Deadlock, copies under way, bytes behind the arena.
void check_end_of_block();

[[noreturn]] void stop_thread(const Thread& thread, const Site& site, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

// Text for messages: a path from csrc or test on.
const char* short_path(const char* path);
const char* op_name(Op op);

static inline bool same_site(const Site& a, const Site& b) {
  const char *x = a.file_name(), *y = b.file_name();
  if (a.line() != b.line() || a.column() != b.column()) return false;
  while (*x != '\0' && *x == *y) ++x, ++y;
  return *x == *y;
}

// Library functions are intercepted by ThreadSanitizer; these are not.
static inline void copy_bytes(unsigned char* dst, const unsigned char* src, size_t bytes) {
  size_t i = 0;
  for (; i + 16 <= bytes; i += 16) __builtin_memcpy(dst + i, src + i, 16);
  for (; i < bytes; ++i) {
    dst[i] = src[i];
    asm volatile("" ::: "memory");  // stays a loop
  }
}
static inline void fill_bytes(unsigned char* dst, unsigned char value, size_t bytes) {
  const uint64_t word = 0x0101010101010101ull * value;
  size_t i = 0;
  for (; i + 16 <= bytes; i += 16) {
    __builtin_memcpy(dst + i, &word, 8);
    __builtin_memcpy(dst + i + 8, &word, 8);
  }
  for (; i < bytes; ++i) {
    dst[i] = value;
    asm volatile("" ::: "memory");
  }
}

static inline bool in_arena(const void* p) {
  const auto* b = static_cast<const unsigned char*>(p);
  return b >= arena && b < arena + kSharedWindow + kGuard;
}
// Fails unless the bytes are inside the block's shared memory where they are in its window at all.
void check_shared(const void* p, size_t bytes, size_t alignment, const char* what, const Site& site);
void check_global(const void* p, size_t bytes, size_t alignment, const char* what, const Site& site);

// Lets some of the thread's copies land, where landing is random.
void land_some(Thread& thread);
void land_everything(Thread& thread);
// Lands one bulk copy: true where there was one.
bool land_bulk();
void perform(Op op, Gathering& gathering);
// Called when a block begins.
void reset_copies();
// proxy_view has something to say from here on.
void open_proxy_view();
// Fails unless the asynchronous proxy sees what the threads see.
void check_proxy(size_t offset, size_t bytes, const Site& site);
// Changes with every set_schedule.
uint64_t schedule_generation();
// An error where the environment names no schedule.
Status check_schedule();

}  // namespace swiftkv::simt
