// Products of a warpgroup: operands by descriptors, results when the schedule says.
#include "backends/simt/block.h"
#include "backends/simt/executor_sm90.h"
#include "core/dtype.h"

namespace swiftkv::simt {
namespace {

constexpr int kGroupThreads = kLanes * kWarpsOfGroup;
constexpr int kM = 64, kK = 16;

// An operand's elements, by the canonical layouts of the PTX ISA ("shared memory matrix layout").
struct Operand {
  uint32_t start, leading, stride;
  int width;  // bytes of a swizzled row: 128, 64, 32; 16 without a swizzle
  int shift;  // 16-byte chunks are exchanged by address bits 7.. masked to this many bits
  bool transposed;

  explicit Operand(uint64_t descriptor, bool is_transposed) : transposed(is_transposed) {
    start = static_cast<uint32_t>(descriptor & 0x3fffu) << 4;
    leading = static_cast<uint32_t>(descriptor >> 16 & 0x3fffu) << 4;
    stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fffu) << 4;
    switch (descriptor >> 62) {
      case 1: width = 128, shift = 3; break;
      case 2: width = 64, shift = 2; break;
      case 3: width = 32, shift = 1; break;
      default: width = 16, shift = 0; break;
    }
  }

  // Byte offset in shared memory of 8 elements: along k (row r, k a multiple of 8) or, transposed, along rows (r a
  // multiple of 8, any k).
  uint32_t chunk(int r, int k) const {
    const auto row = static_cast<uint32_t>(r), column = static_cast<uint32_t>(k);
    const auto w = static_cast<uint32_t>(width);
    uint32_t address = start;
    if (!transposed) {
      address += row / 8 * stride + row % 8 * w;
      address += shift == 0 ? column / 8 * leading : column * 2;
    } else if (shift == 0) {
      address += row / 8 * stride + column / 8 * leading + column % 8 * 16;
    } else {
      const uint32_t elements = w / 2;
      address += row / elements * leading + column / 8 * stride + column % 8 * w + row % elements * 2;
    }
    const uint32_t mask = (1u << shift) - 1;
    return address ^ ((address >> 7 & mask) << 4);
  }

  // Calls f(row, k, bits) for each element, after f_chunk(offset) for each 16 bytes.
  template <class Chunk, class Element>
  void visit(int rows, Chunk&& on_chunk, Element&& on_element) const {
    for (int r = 0; r < rows; r += transposed ? 8 : 1) {
      for (int k = 0; k < kK; k += transposed ? 1 : 8) {
        const uint32_t offset = chunk(r, k);
        on_chunk(offset);
        uint16_t bits[8];
        if (offset + 16 <= kSharedWindow)
          __builtin_memcpy(bits, arena + offset, 16);
        else
          __builtin_memset(bits, 0xff, sizeof bits);
        for (int i = 0; i < 8; ++i) on_element(transposed ? r + i : r, transposed ? k : k + i, bits[i]);
      }
    }
  }
};

// Row of a warpgroup's lane: place i of its d or half of its A.
int row_of(int thread, int high) {
  return thread / kLanes * 16 + thread % kLanes / 4 + 8 * high;
}

void check_operand(const Operand& o, int rows, const Site& site) {
  o.visit(rows, [&](uint32_t offset) { check_proxy(offset, 16, site); }, [](int, int, uint16_t) {});
}

void compute(Product& p) {
  static float a[kM][kK], b[kK][256];
  const auto nothing = [](uint32_t) {};
  if (p.a_in_registers) {
    for (int t = 0; t < kGroupThreads; ++t) {
      for (int i = 0; i < 4; ++i) {
        const uint32_t pair = p.a_lanes[static_cast<size_t>(t * 4 + i)];
        const int column = t % 4 * 2 + i / 2 * 8;
        a[row_of(t, i % 2)][column] = to_f32(bf16{static_cast<uint16_t>(pair)});
        a[row_of(t, i % 2)][column + 1] = to_f32(bf16{static_cast<uint16_t>(pair >> 16)});
      }
    }
  } else {
    Operand(p.a, p.transposed_a).visit(kM, nothing, [](int r, int k, uint16_t bits) { a[r][k] = to_f32(bf16{bits}); });
  }
  Operand(p.b, p.transposed_b).visit(p.n, nothing, [](int r, int k, uint16_t bits) { b[k][r] = to_f32(bf16{bits}); });

  static float d[kM][256];
  for (int t = 0; t < kGroupThreads; ++t) {
    for (int i = 0; i < p.n / 2; ++i) {
      float& to = d[row_of(t, i / 2 % 2)][i / 4 * 8 + t % 4 * 2 + i % 2];
      to = !p.accumulate ? 0.0f : p.chained ? p.d[t][i] : p.sums[static_cast<size_t>(t * (p.n / 2) + i)];
    }
  }
  for (int m = 0; m < kM; ++m) {
    for (int k = 0; k < kK; ++k) {
      for (int n = 0; n < p.n; ++n) d[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int t = 0; t < kGroupThreads; ++t) {
    for (int i = 0; i < p.n / 2; ++i) p.d[t][i] = d[row_of(t, i / 2 % 2)][i / 4 * 8 + t % 4 * 2 + i % 2];
  }
}

Product& product(Warpgroup& g, uint32_t i) {
  return g.products[(g.first_product + i) % kMaxProducts];
}

// The products of groups before `end`, in order.
void finish(Warpgroup& g, uint32_t end) {
  while (g.product_count > 0 && product(g, 0).group < end) {
    compute(product(g, 0));
    g.first_product = (g.first_product + 1) % kMaxProducts;
    --g.product_count;
  }
}

void ask(Warpgroup& g, const Site& site) {
  const Wgmma& first = *g.arguments[0];
  for (int t = 1; t < kGroupThreads; ++t) {
    const Wgmma& w = *g.arguments[t];
    if (w.a != first.a || w.b != first.b || w.n != first.n || w.accumulate != first.accumulate)
      stop(site, "divergent collective: thread %d of the warpgroup gives wgmma other operands than its first", t);
  }
  if (!g.fenced) stop(site, "wgmma without a wgmma_fence since registers were touched");
  open_proxy_view();
  if (g.product_count == kMaxProducts) stop(site, "more than %u products under way", kMaxProducts);
  Product& p = product(g, g.product_count);
  p.sums.clear();
  p.a_lanes.clear();
  p.n = first.n;
  p.accumulate = first.accumulate;
  p.a_in_registers = first.a_lanes != nullptr;
  p.transposed_a = first.transposed_a;
  p.transposed_b = first.transposed_b;
  p.a = first.a;
  p.b = first.b;
  p.group = g.groups;
  p.chained = false;
  if (!p.a_in_registers) check_operand(Operand(p.a, p.transposed_a), kM, site);
  check_operand(Operand(p.b, p.transposed_b), p.n, site);
  for (uint32_t i = 0; i < g.product_count; ++i) p.chained |= product(g, i).d[0] == first.d;
  for (int t = 0; t < kGroupThreads; ++t) {
    const Wgmma& w = *g.arguments[t];
    p.d[t] = w.d;
    for (int i = 0; i < p.n / 2 && p.accumulate && !p.chained; ++i) p.sums.push_back(w.d[i]);
    for (int i = 0; i < 4 && p.a_in_registers; ++i) p.a_lanes.push_back(w.a_lanes[i]);
  }
  const Landing landing = block.schedule.landing;
  ++g.product_count;
  ++counters.wgmma;
  if (landing == Landing::at_once || (landing == Landing::random && block.random.one_in(2))) {
    finish(g, g.groups + 1);
    return;
  }
  // Until the wait nobody may look at the accumulators.
  for (int t = 0; t < kGroupThreads; ++t) {
    for (int i = 0; i < p.n / 2; ++i) p.d[t][i] = __builtin_nanf("");
  }
}

void perform(Warpgroup& g, Op op, const Site& site) {
  switch (op) {
    case Op::wgmma_fence: g.fenced = true; break;
    case Op::wgmma: ask(g, site); break;
    case Op::wgmma_commit: ++g.groups; break;
    default: {
      const auto left = static_cast<uint32_t>(g.arguments[0]->groups_left);
      if (g.groups > left) finish(g, g.groups - left);
      g.fenced = false;
    }
  }
}

}  // namespace

void warpgroup_collective(Op op, const Wgmma& argument, const Site& site) {
  const int thread = block.current->number, group = thread / kGroupThreads;
  if ((group + 1) * kGroupThreads > block.thread_count)
    stop(site, "%s in a warpgroup of %d threads", op_name(op), block.thread_count % kGroupThreads);
  Warpgroup& g = block.warpgroups[group];
  if (g.arrived > 0 && (g.op != op || !same_site(g.site, site)))
    stop(site, "divergent collective: %s here, but other threads of the warpgroup wait in %s at %s:%u", op_name(op),
         op_name(g.op), short_path(g.site.file_name()), static_cast<unsigned>(g.site.line()));
  g.op = op;
  g.site = site;
  g.arguments[thread % kGroupThreads] = &argument;
  if (++g.arrived < kGroupThreads) {
    suspend(op_name(op), site);
    return;
  }
  perform(g, op, site);
  g.arrived = 0;
  uint16_t others[kGroupThreads];
  int count = 0;
  for (int t = 0; t < kGroupThreads; ++t) {
    if (t != thread % kGroupThreads) others[count++] = static_cast<uint16_t>(group * kGroupThreads + t);
  }
  wake_all(others, count);
  maybe_yield();
}

}  // namespace swiftkv::simt
