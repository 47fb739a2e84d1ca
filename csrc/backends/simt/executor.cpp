// Grids, blocks and threads: who runs next, and who waits.
#include "backends/simt/executor.h"

#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <numeric>

#include "backends/simt/block.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace swiftkv::simt {

Block block;
Statistics counters;
alignas(1024) unsigned char arena[kSharedWindow + kGuard];
alignas(1024) unsigned char proxy_view[kSharedWindow];

namespace {

#if defined(SWIFTKV_SIMT_ADDRESS) || defined(SWIFTKV_SIMT_THREAD)
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 256 * 1024;
#endif

std::mutex one_launch;  // one block of the process runs at a time: its state is global
size_t shared_limit = kSharedWindow;
unsigned char* stacks;
int fibers_begun;
uint64_t seen_schedule;

void run_thread() {
  fiber_entered();
  for (;;) {
    Thread& t = *block.current;
    tsan_acquire(&block.began);
    block.grid->call(block.grid->arguments);
    land_everything(t);
    tsan_release(&block.ended);
    t.exited = true;
    ++block.exited;
    Warp& warp = block.warps[t.warp];
    warp.exited |= 1u << t.lane;
    if (warp.open > 0) {
      for (const Gathering& g : warp.slots) {
        if (g.open && (g.mask >> t.lane & 1u))
          stop(g.site, "lane %d exited though the mask 0x%08x of %s names it", t.lane, g.mask, op_name(g.op));
      }
    }
    const Barrier& barrier = block.barriers[0];
    if (barrier.waiting_count > 0)
      stop(barrier.site, "this thread exited while thread %d waits at __syncthreads", barrier.waiting[0]);
    suspend("its end", Site());
  }
}

unsigned char* stack_of(int number) {
  return stacks + static_cast<size_t>(number) * kStackBytes;
}

// Tops of stacks are staggered: at equal distances all of them would meet in one set of the caches.
void begin_threads(int first, int last) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (int i = first; i < last; ++i) {
    const size_t stagger = static_cast<size_t>(i) * 5 * 64 % (16 * 1024);
    begin_fiber(block.threads[i].fiber, stack_of(i) + page, kStackBytes - page - stagger, run_thread);
  }
}

// The next thread to run, or null when nobody can.
Thread* pick() {
  if (block.schedule.landing == Landing::random && !block.bulk.empty() && block.random.one_in(8)) land_bulk();
  while (block.ready_count == 0) {
    if (block.exited == block.thread_count || !land_bulk()) return nullptr;
  }
  int place = block.ready_first;
  const int last = (block.ready_first + block.ready_count - 1) % kMaxThreads;
  if (block.schedule.order == Order::last_in) {
    place = last;
  } else if (block.schedule.order == Order::random) {
    const int i = (block.ready_first + static_cast<int>(block.random.below(static_cast<uint32_t>(block.ready_count)))) %
                  kMaxThreads;
    const uint16_t chosen = block.ready[i];
    block.ready[i] = block.ready[last];
    block.ready[last] = chosen;
    place = last;
  } else {
    block.ready_first = (block.ready_first + 1) % kMaxThreads;
    // Many threads have more stack in use than the first cache holds.
    const Thread& later = block.threads[block.ready[(block.ready_first + 1) % kMaxThreads]];
    const auto* stack = static_cast<const unsigned char*>(later.fiber.stack_pointer);
    __builtin_prefetch(stack);
    __builtin_prefetch(stack + 64);
    __builtin_prefetch(stack + 128);
  }
  --block.ready_count;
  return &block.threads[block.ready[place]];
}

void resume(Thread* next) {
  Fiber& from = block.current != nullptr ? block.current->fiber : block.main;
  if (next == nullptr) {
    block.current = nullptr;
    switch_fiber(from, block.main);
    return;
  }
  if (next == block.current) return;
  block.current = next;
  threadIdx = next->index;
  switch_fiber(from, next->fiber);
}

void begin_block(const dim3& threads) {
  const int count = block.thread_count;
  block.exited = 0;
  block.ready_first = block.ready_count = 0;
  for (int w = 0; w * kLanes < count; ++w) {
    Warp& warp = block.warps[w];
    const int lanes = std::min(kLanes, count - w * kLanes);
    warp.present = lanes == kLanes ? 0xffffffffu : (1u << lanes) - 1;
    warp.exited = 0;
    warp.open = 0;
    for (Gathering& g : warp.slots) g.open = false;
  }
  for (Barrier& b : block.barriers) b.arrived = b.waiting_count = b.expected = 0;
  for (int i = 0; i < count; ++i) {
    Thread& t = block.threads[i];
    const auto n = static_cast<unsigned>(i);
    t.index = {n % threads.x, n / threads.x % threads.y, n / (threads.x * threads.y)};
    t.number = i;
    t.warp = i / kLanes;
    t.lane = i % kLanes;
    t.exited = false;
    t.waits_for = nullptr;
  }
  block.static_shared_count = 0;
  reset_copies();
  const size_t bytes = block.grid->shared_bytes;
  asan_unpoison(arena, kSharedWindow + kGuard);
  fill_bytes(arena, 0xff, bytes);
  fill_bytes(arena + bytes, kGuardByte, kGuard);
  asan_poison(arena + bytes, kSharedWindow + kGuard - bytes);
}

void run_block(const Grid& grid) {
  begin_block(grid.threads);
  uint16_t all[kMaxThreads];
  std::iota(all, all + block.thread_count, uint16_t{0});
  wake_all(all, block.thread_count);
  tsan_release(&block.began);
  resume(pick());
  tsan_acquire(&block.ended);
  if (!block.failed) check_end_of_block();
}

// Visits every block: in order, reversed, or from a random one on with a random stride.
class BlockOrder {
 public:
  BlockOrder(uint64_t count, const Schedule& s) : count_(count) {
    if (s.order == Order::reversed || s.order == Order::last_in) {
      first_ = count - 1;
      stride_ = count - 1;
    } else if (s.order == Order::random) {
      first_ = block.random.next() % count;
      stride_ = block.random.next() % count;
      while (std::gcd(stride_, count) != 1) stride_ = (stride_ + 1) % count;
    }
  }
  uint64_t next() {
    const uint64_t b = first_;
    first_ = (first_ + stride_) % count_;
    return b;
  }

 private:
  uint64_t count_, first_ = 0, stride_ = 1;
};

Status check_grid(const Grid& g) {
  const dim3 t = g.threads;
  const uint64_t threads = uint64_t{t.x} * t.y * t.z;
  if (threads == 0 || threads > kMaxThreads || t.z > 64)
    return fail(Code::internal, "%s: a block of %u x %u x %u threads", g.name, t.x, t.y, t.z);
  if (g.blocks.x > 0x7fffffffu || g.blocks.y > 65535 || g.blocks.z > 65535)
    return fail(Code::internal, "%s: a grid of %u x %u x %u blocks", g.name, g.blocks.x, g.blocks.y, g.blocks.z);
  if (g.shared_bytes > shared_limit)
    return fail(Code::internal, "%s: %zu bytes of dynamic shared memory, a block may have %zu", g.name, g.shared_bytes,
                shared_limit);
  return {};
}

}  // namespace

void wake(Thread& thread) {
  thread.waits_for = nullptr;
  block.ready[(block.ready_first + block.ready_count++) % kMaxThreads] = static_cast<uint16_t>(thread.number);
}

void wake_all(const uint16_t* numbers, int count) {
  const bool reversed = block.schedule.order == Order::reversed;
  for (int i = 0; i < count; ++i) wake(block.threads[numbers[reversed ? count - 1 - i : i]]);
}

void suspend(const char* waits_for, const Site& site) {
  Thread& t = *block.current;
  t.waits_for = waits_for;
  t.site = site;
  resume(pick());
  if (!t.copies.empty()) land_some(t);
}

void leave_block() {
  tsan_release(&block.ended);
  resume(nullptr);
  __builtin_unreachable();
}

void maybe_yield() {
  if (block.schedule.order != Order::random || !block.random.one_in(2)) return;
  wake(*block.current);
  suspend("a turn", Site());
}

Status run_grid(const Grid& grid) {
  const std::lock_guard lock(one_launch);
  forget_failure();
  Status checked = check_schedule();
  if (checked.ok()) checked = check_grid(grid);
  if (!checked.ok()) return checked;
  const uint64_t blocks = uint64_t{grid.blocks.x} * grid.blocks.y * grid.blocks.z;
  if (blocks == 0) return {};
  if (stacks == nullptr) stacks = allocate_stacks(kMaxThreads, kStackBytes);
  if (stacks == nullptr) return fail(Code::out_of_memory, "%s: no memory for stacks", grid.name);

  const dim3 t = grid.threads;
  block.grid = &grid;
  block.thread_count = static_cast<int>(t.x * t.y * t.z);
  block.schedule = schedule();
  if (seen_schedule != schedule_generation()) {
    seen_schedule = schedule_generation();
    block.random.state = block.schedule.seed;
  }
  block.failed = false;
  block.current = nullptr;
  adopt_thread(block.main);
  if (fibers_begun < block.thread_count) {
    begin_threads(fibers_begun, block.thread_count);
    fibers_begun = block.thread_count;
  }
  blockDim = grid.threads;
  gridDim = grid.blocks;
  ++counters.launches;
  BlockOrder order(blocks, block.schedule);
  for (uint64_t i = 0; i < blocks && !block.failed; ++i) {
    const uint64_t b = order.next();
    blockIdx = {static_cast<unsigned>(b % gridDim.x), static_cast<unsigned>(b / gridDim.x % gridDim.y),
                static_cast<unsigned>(b / (uint64_t{gridDim.x} * gridDim.y))};
    ++counters.blocks;
    run_block(grid);
  }
  if (!block.failed) return {};
  begin_threads(0, fibers_begun);  // what the abandoned threads have on their stacks is never looked at again
  return fail(Code::internal, "%s", last_failure().c_str());
}

size_t set_shared_limit(size_t bytes) {
  const size_t before = shared_limit;
  shared_limit = bytes < kSharedWindow ? bytes : kSharedWindow;
  return before;
}

const Statistics& statistics() {
  return counters;
}

void reset_statistics() {
  counters = {};
}

unsigned char* shared_memory(size_t alignment, const Site& site) {
  if (block.grid->shared_bytes == 0) stop(site, "the launch gave no dynamic shared memory");
  if (alignment > 1024) stop(site, "dynamic shared memory is aligned to 1024 bytes, not to %zu", alignment);
  return arena;
}

void static_shared(void* variable, size_t bytes, const Site& site) {
  for (int i = 0; i < block.static_shared_count; ++i) {
    if (block.static_shared[i] == variable) return;
  }
  if (block.static_shared_count == kMaxStaticShared)
    stop(site, "more than %d variables in shared memory", kMaxStaticShared);
  block.static_shared[block.static_shared_count++] = variable;
  fill_bytes(static_cast<unsigned char*>(variable), 0xff, bytes);
}

uint32_t shared_address(const void* p, const Site& site) {
  const auto* b = static_cast<const unsigned char*>(p);
  if (b < arena || b > arena + block.grid->shared_bytes) stop(site, "the address is not in dynamic shared memory");
  return static_cast<uint32_t>(b - arena);
}

}  // namespace swiftkv::simt
