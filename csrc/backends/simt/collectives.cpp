// Collectives of a warp: lanes gather, the last one works for all.
#include <bit>

#include "backends/simt/block.h"
#include "core/dtype.h"

namespace swiftkv::simt {
namespace {

void shuffle(Op op, Gathering& g) {
  uint32_t sent[kLanes][2];
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(g.mask >> lane & 1u)) continue;
    const auto& s = *static_cast<const Shuffle*>(g.arguments[lane]);
    sent[lane][0] = s.words[0];
    sent[lane][1] = s.words[1];
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    if (!(g.mask >> lane & 1u)) continue;
    auto& s = *static_cast<Shuffle*>(g.arguments[lane]);
    const int first = lane & ~(s.width - 1), last = first + s.width - 1;
    int from = lane;
    switch (op) {
      case Op::shuffle_index: from = first | (s.operand & (s.width - 1)); break;
      case Op::shuffle_up: from = lane - s.operand < first ? lane : lane - s.operand; break;
      case Op::shuffle_down: from = lane + s.operand > last ? lane : lane + s.operand; break;
      default: from = (lane ^ s.operand) > last ? lane : lane ^ s.operand; break;
    }
    const Thread& t = block.threads[block.current->warp * kLanes + lane];
    if (from < 0 || from >= kLanes || !(g.mask >> from & 1u))
      stop_thread(t, g.site, "%s reads lane %d, which the mask 0x%08x does not name", op_name(op), from, g.mask);
    s.words[0] = sent[from][0];
    s.words[1] = sent[from][1];
  }
}

void vote(Op op, Gathering& g) {
  uint32_t ballot = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    if ((g.mask >> lane & 1u) && static_cast<const Vote*>(g.arguments[lane])->predicate != 0) ballot |= 1u << lane;
  }
  const uint32_t result = op == Op::ballot ? ballot : op == Op::any ? ballot != 0 : ballot == g.mask;
  for (int lane = 0; lane < kLanes; ++lane) {
    if (g.mask >> lane & 1u) static_cast<Vote*>(g.arguments[lane])->result = result;
  }
}

// A matrix at a time: 8 rows of 16 bytes pass at once unless two lie in the same 16 bytes of the 128 that all banks
// give.
void count_conflicts(const void* const (&rows)[8]) {
  uint64_t most = 1;
  for (int i = 0; i < 8; ++i) {
    const auto address = reinterpret_cast<uintptr_t>(rows[i]);
    uint64_t same = 0;
    for (int j = 0; j < 8; ++j) {
      const auto other = reinterpret_cast<uintptr_t>(rows[j]);
      bool seen = false;
      for (int k = 0; k < j; ++k) seen |= rows[k] == rows[j];
      same += !seen && other / 16 % 8 == address / 16 % 8;
    }
    most = same > most ? same : most;
  }
  ++counters.ldmatrix_rows_of_8;
  counters.ldmatrix_bank_conflicts += most - 1;
}

void ldmatrix(Gathering& g) {
  const LdMatrix& first = *static_cast<const LdMatrix*>(g.arguments[0]);
  for (int lane = 1; lane < kLanes; ++lane) {
    const LdMatrix& m = *static_cast<const LdMatrix*>(g.arguments[lane]);
    if (m.matrices != first.matrices || m.transposed != first.transposed)
      stop(g.site, "divergent collective: lane 0 and lane %d ask for different forms of ldmatrix", lane);
  }
  for (int matrix = 0; matrix < first.matrices; ++matrix) {
    uint16_t elements[8][8];
    const void* rows[8];
    for (int i = 0; i < 8; ++i) {
      rows[i] = static_cast<const LdMatrix*>(g.arguments[matrix * 8 + i])->row;
      __builtin_memcpy(elements[i], rows[i], 16);
    }
    count_conflicts(rows);
    for (int lane = 0; lane < kLanes; ++lane) {
      const int group = lane / 4, t = 2 * (lane % 4);
      const uint32_t low = first.transposed ? elements[t][group] : elements[group][t];
      const uint32_t high = first.transposed ? elements[t + 1][group] : elements[group][t + 1];
      static_cast<const LdMatrix*>(g.arguments[lane])->r[matrix] = low | high << 16;
    }
  }
}

float element(uint32_t pair, int half, bool is_f16) {
  const auto bits = static_cast<uint16_t>(pair >> 16 * half);
  return is_f16 ? to_f32(f16{bits}) : to_f32(bf16{bits});
}

// D[16][8] += A[16][16] B[16][8]: one f32 sum an element, products in order of k.
void mma(Gathering& g) {
  const bool is_f16 = static_cast<const Mma*>(g.arguments[0])->f16;
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const Mma& m = *static_cast<const Mma*>(g.arguments[lane]);
    if (m.f16 != is_f16) stop(g.site, "divergent collective: lane 0 and lane %d multiply different types", lane);
    const int group = lane / 4, t = 2 * (lane % 4);
    for (int half = 0; half < 2; ++half) {
      a[group][t + half] = element(m.a[0], half, is_f16);
      a[group + 8][t + half] = element(m.a[1], half, is_f16);
      a[group][t + 8 + half] = element(m.a[2], half, is_f16);
      a[group + 8][t + 8 + half] = element(m.a[3], half, is_f16);
      b[t + half][group] = element(m.b[0], half, is_f16);
      b[t + 8 + half][group] = element(m.b[1], half, is_f16);
      d[group][t + half] = m.d[half];
      d[group + 8][t + half] = m.d[2 + half];
    }
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const Mma& m = *static_cast<const Mma*>(g.arguments[lane]);
    const int group = lane / 4, t = 2 * (lane % 4);
    for (int half = 0; half < 2; ++half) {
      m.d[half] = d[group][t + half];
      m.d[2 + half] = d[group + 8][t + half];
    }
  }
  ++counters.mma;
}

Gathering* find(Warp& warp, uint32_t mask) {
  if (warp.open == 0) return nullptr;
  for (Gathering& g : warp.slots) {
    if (g.open && g.mask == mask) return &g;
  }
  return nullptr;
}

[[noreturn]] void stop_divergent(const Gathering& g, Op op, uint32_t mask, const Site& site) {
  stop(site, "divergent collective: %s with mask 0x%08x here, but lane %d waits in %s with mask 0x%08x at %s:%u",
       op_name(op), mask, std::countr_zero(g.arrived), op_name(g.op), g.mask, short_path(g.site.file_name()),
       static_cast<unsigned>(g.site.line()));
}

}  // namespace

const char* op_name(Op op) {
  switch (op) {
    case Op::sync: return "__syncwarp";
    case Op::shuffle_index: return "__shfl_sync";
    case Op::shuffle_up: return "__shfl_up_sync";
    case Op::shuffle_down: return "__shfl_down_sync";
    case Op::shuffle_xor: return "__shfl_xor_sync";
    case Op::ballot: return "__ballot_sync";
    case Op::any: return "__any_sync";
    case Op::all: return "__all_sync";
    case Op::ldmatrix: return "ldmatrix";
    case Op::mma: return "mma";
    case Op::wgmma_fence: return "wgmma.fence";
    case Op::wgmma: return "wgmma";
    case Op::wgmma_commit: return "wgmma.commit_group";
    case Op::wgmma_wait: return "wgmma.wait_group";
  }
  return "?";
}

void perform(Op op, Gathering& g) {
  switch (op) {
    case Op::shuffle_index:
    case Op::shuffle_up:
    case Op::shuffle_down:
    case Op::shuffle_xor: return shuffle(op, g);
    case Op::ballot:
    case Op::any:
    case Op::all: return vote(op, g);
    case Op::ldmatrix: return ldmatrix(g);
    case Op::mma: return mma(g);
    default: return;
  }
}

void warp_collective(Op op, uint32_t mask, void* argument, const Site& site) {
  Thread& t = *block.current;
  Warp& warp = block.warps[t.warp];
  if (op == Op::ldmatrix) {
    const LdMatrix& m = *static_cast<const LdMatrix*>(argument);
    if (t.lane < 8 * m.matrices) check_shared(m.row, 16, 16, "ldmatrix's row", site);
  }
  if (!(mask >> t.lane & 1u))
    stop(site, "the mask 0x%08x of %s does not name its own lane %d", mask, op_name(op), t.lane);
  if (mask & ~warp.present)
    stop(site, "the mask 0x%08x of %s names lane %d, which this warp has not", mask, op_name(op),
         std::countr_zero(mask & ~warp.present));
  if (mask & warp.exited)
    stop(site, "the mask 0x%08x of %s names lane %d, which has exited", mask, op_name(op),
         std::countr_zero(mask & warp.exited));

  Gathering* g = find(warp, mask);
  if (g == nullptr) {
    for (Gathering& other : warp.slots) {
      if (other.open && (other.arrived & mask)) stop_divergent(other, op, mask, site);
      if (!other.open && g == nullptr) g = &other;
      if (warp.open == 0) break;
    }
    g->open = true;
    g->op = op;
    g->mask = mask;
    g->arrived = 0;
    g->site = site;
    ++warp.open;
  } else if (g->op != op || !same_site(g->site, site)) {
    stop_divergent(*g, op, mask, site);
  }
  char* sync = &g->sync.object[g->generation % 2];
  if (op == Op::sync) tsan_release(sync);
  g->arguments[t.lane] = argument;
  g->arrived |= 1u << t.lane;
  if (g->arrived == mask) {
    perform(op, *g);
    g->open = false;
    ++g->generation;
    --warp.open;
    ++counters.warp_collectives;
    uint16_t others[kLanes];
    int count = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (lane != t.lane && (mask >> lane & 1u)) others[count++] = static_cast<uint16_t>(t.warp * kLanes + lane);
    }
    wake_all(others, count);
    maybe_yield();
  } else {
    suspend(op_name(op), site);
  }
  if (op == Op::sync) tsan_acquire(sync);
}

}  // namespace swiftkv::simt
