// Blocks and threads: who runs, who waits, and what is said when something is wrong.
#include "backends/simt/executor.h"

#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
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

#if defined(__SANITIZE_ADDRESS__) || defined(SWIFTKV_SIMT_TSAN)
constexpr size_t kStackBytes = 512 * 1024;
#else
constexpr size_t kStackBytes = 256 * 1024;
#endif
constexpr unsigned char kGuardByte = 0xa5;

std::mutex one_launch;  // one block of the process runs at a time: its state is global
std::string failure;
char failure_text[4096];
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
  reset_copies();
  const size_t bytes = block.grid->shared_bytes;
  asan_unpoison(arena, kSharedWindow + kGuard);
  fill_bytes(arena, 0xff, bytes);
  fill_bytes(arena + bytes, kGuardByte, kGuard);
  asan_poison(arena + bytes, kSharedWindow + kGuard - bytes);
}

void add(std::string& text, const char* format, ...) __attribute__((format(printf, 2, 3)));
void add(std::string& text, const char* format, ...) {
  char buffer[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  text += buffer;
}

std::string place_of_block() {
  std::string text;
  add(text, "%s block (%u, %u, %u)", block.grid->name, blockIdx.x, blockIdx.y, blockIdx.z);
  return text;
}

// Runs of neighbours that wait at the same place.
std::string waiting_threads() {
  std::string text = place_of_block() + ": deadlock, nobody can run:";
  for (int i = 0; i < block.thread_count;) {
    const Thread& t = block.threads[i];
    int end = i + 1;
    while (end < block.thread_count && block.threads[end].exited == t.exited &&
           (t.exited || (block.threads[end].waits_for == t.waits_for && same_site(block.threads[end].site, t.site))))
      ++end;
    if (end == i + 1)
      add(text, " thread %d", i);
    else
      add(text, " threads %d to %d", i, end - 1);
    if (t.exited)
      text += " exited;";
    else
      add(text, " at %s %s:%u;", t.waits_for, short_path(t.site.file_name()), t.site.line());
    i = end;
  }
  text.back() = '.';
  return text;
}

void check_end_of_block(const Grid& grid) {
  if (!block.bulk.empty()) {
    const BulkCopy& c = block.bulk[0];
    failure = place_of_block();
    add(failure, " thread %d %s:%u: nobody has waited for this bulk copy, and the block ends", c.thread,
        short_path(c.site.file_name()), static_cast<unsigned>(c.site.line()));
    block.failed = true;
  }
#if !defined(__SANITIZE_ADDRESS__)
  for (size_t i = 0; i < kGuard; ++i) {
    if (arena[grid.shared_bytes + i] == kGuardByte) continue;
    failure = place_of_block();
    add(failure, ": dynamic shared memory was written %zu bytes past its %zu", i + 1, grid.shared_bytes);
    block.failed = true;
    break;
  }
#endif
}

void run_block(const Grid& grid) {
  begin_block(grid.threads);
  uint16_t all[kMaxThreads];
  std::iota(all, all + block.thread_count, uint16_t{0});
  wake_all(all, block.thread_count);
  tsan_release(&block.began);
  resume(pick());
  tsan_acquire(&block.ended);
  if (block.failed) {
    failure = failure_text;
  } else if (block.exited < block.thread_count) {
    failure = waiting_threads();
    block.failed = true;
  } else {
    check_end_of_block(grid);
  }
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

const char* short_path(const char* path) {
  const char* found = path;
  for (const char* p = path; *p != '\0'; ++p) {
    if (p != path && p[-1] != '/') continue;
    if (std::strncmp(p, "csrc/", 5) == 0 || std::strncmp(p, "test/", 5) == 0) found = p;
  }
  return found;
}

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

void maybe_yield() {
  if (block.schedule.order != Order::random || !block.random.one_in(2)) return;
  wake(*block.current);
  suspend("a turn", Site());
}

static void say_and_leave(const Thread& t, const Site& site, const char* format, va_list args) {
  int n = std::snprintf(failure_text, sizeof failure_text,
                        "%s block (%u, %u, %u) thread (%u, %u, %u) %s:%u: ", block.grid->name, blockIdx.x, blockIdx.y,
                        blockIdx.z, t.index.x, t.index.y, t.index.z, short_path(site.file_name()),
                        static_cast<unsigned>(site.line()));
  if (n < 0) n = 0;
  if (static_cast<size_t>(n) < sizeof failure_text)
    std::vsnprintf(failure_text + n, sizeof failure_text - static_cast<size_t>(n), format, args);
  block.failed = true;
  tsan_release(&block.ended);
  resume(nullptr);
}

void stop_thread(const Thread& thread, const Site& site, const char* format, ...) {
  va_list args;
  va_start(args, format);
  say_and_leave(thread, site, format, args);
  va_end(args);
  __builtin_unreachable();
}

void stop(const Site& site, const char* format, ...) {
  va_list args;
  va_start(args, format);
  say_and_leave(*block.current, site, format, args);
  va_end(args);
  __builtin_unreachable();
}

Status run_grid(const Grid& grid) {
  const std::lock_guard lock(one_launch);
  failure.clear();
  Status checked = check_schedule();
  if (checked.ok()) checked = check_grid(grid);
  if (!checked.ok()) {
    failure = checked.message;
    return checked;
  }
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
  return fail(Code::internal, "%s", failure.c_str());
}

const std::string& last_failure() {
  return failure;
}

void set_shared_limit(size_t bytes) {
  shared_limit = bytes < kSharedWindow ? bytes : kSharedWindow;
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

uint32_t shared_address(const void* p, const Site& site) {
  const auto* b = static_cast<const unsigned char*>(p);
  if (b < arena || b > arena + block.grid->shared_bytes) stop(site, "the address is not in dynamic shared memory");
  return static_cast<uint32_t>(b - arena);
}

void check_shared(const void* p, size_t bytes, size_t alignment, const char* what, const Site& site) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0)
    stop(site, "misaligned address of %s: it must be a multiple of %zu, its last bits are 0x%02x", what, alignment,
         static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % (2 * alignment)));
  if (in_arena(p)) {
    const auto offset = static_cast<size_t>(static_cast<const unsigned char*>(p) - arena);
    if (offset + bytes > block.grid->shared_bytes)
      stop(site, "%s reaches byte %zu of dynamic shared memory, the block has %zu", what, offset + bytes,
           block.grid->shared_bytes);
  } else if (asan_poisoned(p, bytes)) {
    stop(site, "%s is outside shared memory", what);
  }
}

void check_global(const void* p, size_t bytes, size_t alignment, const char* what, const Site& site) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0)
    stop(site, "misaligned address of %s: it must be a multiple of %zu, its last bits are 0x%02x", what, alignment,
         static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % (2 * alignment)));
  if (in_arena(p)) stop(site, "%s is in shared memory", what);
  if (asan_poisoned(p, bytes)) stop(site, "%s reads memory that belongs to nobody", what);
}

}  // namespace swiftkv::simt
