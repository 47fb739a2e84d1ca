// Asynchronous copies of threads (cp.async): when their bytes land is a matter of the schedule.
#include "backends/simt/block.h"

namespace swiftkv::simt {
namespace {

// Bytes that nobody may look at before the copy has landed: NaN in every type.
constexpr unsigned char kNotLanded = 0xff;

void land(Thread& t, const Copy& c) {
  if (c.valid)
    copy_bytes(c.dst, static_cast<const unsigned char*>(c.src), static_cast<size_t>(c.bytes));
  else
    fill_bytes(c.dst, 0, static_cast<size_t>(c.bytes));
  if (in_arena(c.dst)) {
    block.unfenced[static_cast<size_t>(c.dst - arena) / kCopyUnit] = static_cast<uint16_t>(t.number + 1);
    block.any_unfenced = true;
  }
}

#if defined(SWIFTKV_SIMT_THREAD)
constexpr bool kWaitWrites = true;  // for ThreadSanitizer the wait is a write too, so copies that landed are kept
#else
constexpr bool kWaitWrites = false;
#endif

}  // namespace

void copy_async(void* dst, const void* src, int bytes, bool valid, const Site& site) {
  Thread& t = *block.current;
  void* caller = __builtin_return_address(0);
  check_shared(dst, static_cast<size_t>(bytes), static_cast<size_t>(bytes), "cp.async's destination", site);
  if (valid) check_global(src, static_cast<size_t>(bytes), static_cast<size_t>(bytes), "cp.async's source", site);
  tsan_write(dst, static_cast<size_t>(bytes), caller);
  if (valid) tsan_read(src, static_cast<size_t>(bytes), caller);
  ++counters.async_copies;
  const Copy c{static_cast<unsigned char*>(dst), src, bytes, valid, t.groups};
  const bool at_once = block.schedule.landing == Landing::at_once ||
                       (block.schedule.landing == Landing::random && block.random.one_in(4));
  if (at_once)
    land(t, c);
  else
    fill_bytes(c.dst, kNotLanded, static_cast<size_t>(bytes));
  if (!at_once || kWaitWrites) t.copies.push_back(c);
}

void copy_async_commit() {
  Thread& t = *block.current;
  ++t.groups;
  if (!t.copies.empty()) land_some(t);
}

void copy_async_wait(uint32_t groups_left) {
  Thread& t = *block.current;
  void* caller = __builtin_return_address(0);
  size_t kept = 0;
  for (size_t i = 0; i < t.copies.size(); ++i) {
    const Copy c = t.copies[i];
    // Groups c.group + 1 .. t.groups - 1 are younger: done where more than groups_left, this one included, would stay.
    if (c.group < t.groups && t.groups - c.group > groups_left) {
      tsan_write(c.dst, static_cast<size_t>(c.bytes), caller);
      if (block.schedule.landing != Landing::at_once) land(t, c);
    } else {
      t.copies[kept++] = c;
    }
  }
  t.copies.shrink(kept);
}

void land_some(Thread& t) {
  if (block.schedule.landing != Landing::random) return;
  for (size_t i = 0; i < t.copies.size();) {
    if (block.random.one_in(8)) {
      land(t, t.copies[i]);
      if (!kWaitWrites) {
        t.copies.remove(i);
        continue;
      }
    }
    ++i;
  }
}

void land_everything(Thread& t) {
  if (t.copies.empty()) return;
  if (block.schedule.landing != Landing::at_once) {
    for (const Copy& c : t.copies) land(t, c);
  }
  t.copies.clear();
}

void reset_copies() {
  for (int i = 0; i < block.thread_count; ++i) {
    block.threads[i].copies.clear();
    block.threads[i].groups = 0;
    block.threads[i].mbarrier = nullptr;
  }
  for (Warpgroup& g : block.warpgroups) {
    g.arrived = 0;
    g.fenced = false;
    g.groups = 0;
    g.product_count = 0;
  }
  block.proxy_in_use = false;
  block.fresh_mbarriers.clear();
  block.bulk.clear();
  if (block.any_unfenced) fill_bytes(reinterpret_cast<unsigned char*>(block.unfenced), 0, sizeof block.unfenced);
  block.any_unfenced = false;
}

}  // namespace swiftkv::simt
