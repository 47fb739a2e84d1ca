// mbarriers and bulk copies, and what of shared memory the asynchronous proxy may see.
#include "backends/simt/block.h"
#include "backends/simt/executor_sm90.h"

namespace swiftkv::simt {
namespace {

// The 8 bytes of an mbarrier. Fresh shared memory is all ones, so the last bit tells that nobody has initialised it.
struct Mbarrier {
  uint32_t pending, expected;
  int32_t bytes;  // announced and not landed
  uint32_t phase;
};
constexpr int32_t kBytesBias = 1 << 20;

bool unpack(uint64_t word, Mbarrier& m) {
  if (word >> 63) return false;
  m.pending = word & 0xfffffu;
  m.expected = word >> 20 & 0xfffffu;
  m.bytes = static_cast<int32_t>(word >> 40 & 0x3fffffu) - kBytesBias;
  m.phase = word >> 62 & 1u;
  return true;
}

uint64_t pack(const Mbarrier& m) {
  return uint64_t{m.pending} | uint64_t{m.expected} << 20 | static_cast<uint64_t>(m.bytes + kBytesBias) << 40 |
         uint64_t{m.phase} << 62;
}

Mbarrier load(uint64_t* barrier, const Site& site) {
  check_shared(barrier, 8, 8, "the mbarrier", site);
  Mbarrier m{};
  if (!unpack(*barrier, m)) stop(site, "the mbarrier was not initialised");
  return m;
}

char* sync_of(uint64_t* barrier, uint32_t phase) {
  return reinterpret_cast<char*>(barrier) + 4 * phase;
}

void store(uint64_t* barrier, Mbarrier m) {
  if (m.pending == 0 && m.bytes == 0) {
    m.pending = m.expected;
    m.phase ^= 1u;
    for (int i = 0; i < block.thread_count; ++i) {
      Thread& t = block.threads[i];
      if (t.mbarrier != barrier || t.parity == m.phase) continue;
      t.mbarrier = nullptr;
      wake(t);
    }
  }
  *barrier = pack(m);
}

void land(const BulkCopy& c) {
  copy_bytes(c.dst, c.src, c.bytes);
  const auto offset = static_cast<size_t>(c.dst - arena);
  copy_bytes(proxy_view + offset, c.src, c.bytes);
  for (size_t i = offset / kCopyUnit; i < (offset + c.bytes) / kCopyUnit; ++i) block.unfenced[i] = 0;
  Mbarrier m{};
  if (!unpack(*c.mbarrier, m)) stop_thread(block.threads[c.thread], c.site, "the mbarrier of a copy was written over");
  m.bytes -= static_cast<int32_t>(c.bytes);
  store(c.mbarrier, m);
}

}  // namespace

void open_proxy_view() {
  if (block.proxy_in_use) return;
  block.proxy_in_use = true;
  fill_bytes(proxy_view, 0xff, block.grid->shared_bytes);
}

void mbarrier_init(uint64_t* barrier, uint32_t arrivals, const Site& site) {
  check_shared(barrier, 8, 8, "the mbarrier", site);
  if (arrivals == 0 || arrivals >= 1u << 20) stop(site, "an mbarrier of %u arrivals", arrivals);
  *barrier = pack({arrivals, arrivals, 0, 0});
  block.fresh_mbarriers.push_back({barrier, block.current->number});
}

void mbarrier_init_fence() {
  auto& fresh = block.fresh_mbarriers;
  size_t kept = 0;
  for (const FreshMbarrier& f : fresh) {
    if (f.thread != block.current->number) fresh[kept++] = f;
  }
  fresh.shrink(kept);
}

void mbarrier_arrive(uint64_t* barrier, uint32_t bytes, const Site& site) {
  Mbarrier m = load(barrier, site);
  if (m.pending == 0) stop(site, "more arrivals than the %u of the mbarrier's phase", m.expected);
  if (bytes >= 1u << 20) stop(site, "%u bytes are more than an mbarrier counts", bytes);
  tsan_release(sync_of(barrier, m.phase));
  m.bytes += static_cast<int32_t>(bytes);
  --m.pending;
  store(barrier, m);
}

bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity, const Site& site) {
  if (parity > 1) stop(site, "a parity is 0 or 1, not %u", parity);
  Mbarrier m = load(barrier, site);
  if (m.phase == parity) {
    Thread& t = *block.current;
    if (block.schedule.order == Order::random && block.random.one_in(4)) {
      wake(t);
      suspend("a turn", site);
      m = load(barrier, site);
      if (m.phase == parity) return false;
    } else {
      t.mbarrier = barrier;
      t.parity = parity;
      suspend("an mbarrier", site);
    }
  }
  tsan_acquire(sync_of(barrier, parity));
  return true;
}

void bulk_copy(void* dst, const void* src, uint32_t bytes, uint64_t* barrier, const Site& site) {
  const Mbarrier m = load(barrier, site);
  if (bytes == 0 || bytes % 16 != 0) stop(site, "a bulk copy of %u bytes, expected a multiple of 16", bytes);
  check_shared(dst, bytes, 16, "the bulk copy's destination", site);
  if (!in_arena(dst)) stop(site, "the bulk copy's destination is not in dynamic shared memory");
  check_global(src, bytes, 16, "the bulk copy's source", site);
  for (const FreshMbarrier& f : block.fresh_mbarriers) {
    if (f.barrier == barrier) stop(site, "the mbarrier was initialised and not fenced (mbarrier_init_fence)");
  }
  open_proxy_view();
  void* caller = __builtin_return_address(0);
  tsan_write(dst, bytes, caller);
  tsan_read(src, bytes, caller);
  tsan_release(sync_of(barrier, m.phase));
  ++counters.bulk_copies;
  const BulkCopy c{static_cast<unsigned char*>(dst),
                   static_cast<const unsigned char*>(src),
                   bytes,
                   barrier,
                   block.current->number,
                   site};
  if (block.schedule.landing == Landing::at_once) {
    land(c);
    return;
  }
  fill_bytes(c.dst, 0xff, bytes);
  fill_bytes(proxy_view + (c.dst - arena), 0xff, bytes);
  block.bulk.push_back(c);
}

bool land_bulk() {
  if (block.bulk.empty()) return false;
  size_t i = 0;
  if (block.schedule.landing == Landing::random) i = block.random.below(static_cast<uint32_t>(block.bulk.size()));
  const BulkCopy c = block.bulk[i];
  block.bulk.remove(i);
  land(c);
  return true;
}

void proxy_fence() {
  open_proxy_view();
  mbarrier_init_fence();
  copy_bytes(proxy_view, arena, block.grid->shared_bytes);
  if (!block.any_unfenced) return;
  const auto mine = static_cast<uint16_t>(block.current->number + 1);
  for (size_t i = 0; i < (block.grid->shared_bytes + kCopyUnit - 1) / kCopyUnit; ++i) {
    if (block.unfenced[i] == mine) block.unfenced[i] = 0;
  }
}

void check_proxy(size_t offset, size_t bytes, const Site& site) {
  if (offset + bytes > block.grid->shared_bytes)
    stop(site, "wgmma reads byte %zu of dynamic shared memory, the block has %zu", offset + bytes,
         block.grid->shared_bytes);
  for (size_t i = offset / kCopyUnit; i < (offset + bytes + kCopyUnit - 1) / kCopyUnit; ++i) {
    if (block.unfenced[i] != 0)
      stop(site, "wgmma reads bytes %zu to %zu that thread %d copied by cp.async without a proxy_fence", offset,
           offset + bytes, block.unfenced[i] - 1);
  }
  for (size_t i = offset; i < offset + bytes; ++i) {
    if (arena[i] != proxy_view[i])
      stop(site, "wgmma reads byte %zu of dynamic shared memory, which was stored without a proxy_fence", i);
  }
}

}  // namespace swiftkv::simt
