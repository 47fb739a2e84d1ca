// Barriers of a block, all of its threads or a number of them.
#include "backends/simt/block.h"

namespace swiftkv::simt {
namespace {

int arrive(Barrier& b, int expected, bool wait, Reduction reduction, int predicate, const char* name,
           const Site& site) {
  Thread& t = *block.current;
  if (b.arrived == 0) {
    b.expected = expected;
    b.reduction = reduction;
    b.predicates = 0;
    b.site = site;
  } else if (b.expected != expected || b.reduction != reduction) {
    stop(site, "divergent barrier: others wait at %s:%u for another kind or number of threads",
         short_path(b.site.file_name()), static_cast<unsigned>(b.site.line()));
  }
  const uint32_t generation = b.generation;
  char* sync = &b.sync.object[generation % 2];
  tsan_release(sync);
  b.predicates += predicate != 0;
  if (++b.arrived == b.expected) {
    int& result = b.result[generation % 2];
    switch (reduction) {
      case Reduction::none: break;
      case Reduction::any: result = b.predicates > 0; break;
      case Reduction::all: result = b.predicates == b.expected; break;
      case Reduction::count: result = b.predicates; break;
    }
    b.arrived = 0;
    ++b.generation;
    const int waiting = b.waiting_count;
    b.waiting_count = 0;
    ++counters.block_barriers;
    wake_all(b.waiting, waiting);
    if (block.schedule.order == Order::random || block.schedule.order == Order::last_in) {
      wake(t);
      suspend(name, site);
    }
  } else if (wait) {
    b.waiting[b.waiting_count++] = static_cast<uint16_t>(t.number);
    suspend(name, site);
  }
  if (wait) tsan_acquire(sync);
  return b.result[generation % 2];
}

}  // namespace

int block_barrier(Reduction reduction, int predicate, const Site& site) {
  Barrier& b = block.barriers[0];
  if (block.exited > 0) {
    for (int i = 0; i < block.thread_count; ++i) {
      if (block.threads[i].exited) stop(site, "__syncthreads, but thread %d has exited", i);
    }
  }
  if (b.arrived > 0 && !same_site(b.site, site))
    stop(site, "divergent barrier: thread %d waits at another __syncthreads, %s:%u", b.waiting[0],
         short_path(b.site.file_name()), static_cast<unsigned>(b.site.line()));
  return arrive(b, block.thread_count, true, reduction, predicate, "__syncthreads", site);
}

void named_barrier(int id, int threads, bool wait, const Site& site) {
  if (id < 1 || id >= kNamedBarriers) stop(site, "named barriers are 1 to 15, not %d", id);
  if (threads <= 0 || threads % kLanes != 0 || threads > block.thread_count)
    stop(site, "a named barrier of %d threads in a block of %d", threads, block.thread_count);
  arrive(block.barriers[id], threads, wait, Reduction::none, 0, "a named barrier", site);
}

}  // namespace swiftkv::simt
