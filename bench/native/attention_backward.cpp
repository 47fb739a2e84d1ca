// How fast the gradients of attention are, as a share of the multiply-adds in registers that this machine does in the
// same second. Five products over the keys that a row sees count as work, nothing else. Peaks, levels and dtypes take
// turns; each line shows medians.
//
// Usage: bench_attention_backward [threads] [repeats] [all: scalar too]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "backends/cpu/level.h"
#include "backends/cpu/memory.h"
#include "backends/cpu/train_kernels.h"
#include "bench/native/machine_peaks.h"
#include "core/random.h"

namespace {

using namespace swiftkv;

struct Shape {
  const char* name;
  int32_t num_heads, num_kv_heads, head_dim, sequences, rows;  // rows of each sequence
};
constexpr Shape kShapes[] = {
    {"embedded model", 8, 4, 32, 8, 512},
    {"embedded model", 8, 4, 32, 16, 256},
    {"embedded model", 8, 4, 32, 4, 1024},
    {"embedded model", 8, 4, 32, 1, 4096},
    {"1B, one sequence", 32, 8, 64, 1, 512},
    {"1B", 32, 8, 64, 8, 512},
    {"8B", 32, 8, 128, 2, 512},
};
struct Kind {
  const char* name;
  DType act, cache;
};
constexpr Kind kKinds[] = {{"f32", DType::f32, DType::f32}, {"bf16", DType::bf16, DType::bf16}};

struct Block {
  explicit Block(size_t n) : bytes(n) { check(cpu::allocate(n, &data)); }
  Block(const Block&) = delete;
  ~Block() { cpu::release(data, bytes); }
  std::byte* start() const { return static_cast<std::byte*>(data); }
  float* floats() const { return static_cast<float*>(data); }
  size_t bytes;
  void* data = nullptr;
};

// Values of magnitude 2^-7 to 1 in bf16 and f32: real work for the multipliers.
void fill(const Block& block) {
  for (size_t i = 0; i < block.bytes / 4; ++i) {
    const auto r = static_cast<uint32_t>(mix64(i));
    static_cast<uint32_t*>(block.data)[i] = (r & 0x83778377u) | 0x3c003c00u;
  }
}

double median(std::vector<double>& v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

// The sequences of a shape, and memory for all of its operands in the wider dtype.
struct Problem {
  explicit Problem(const Shape& shape)
      : s(shape),
        rows(s.sequences * s.rows),
        width(s.num_heads * s.head_dim),
        kv_width(2 * s.num_kv_heads * s.head_dim),
        q(bytes(width)),
        o(bytes(width)),
        dout(bytes(width)),
        dq(bytes(width)),
        dkv(bytes(kv_width)),
        pages(bytes(kv_width)) {
    const int32_t each = s.rows / kBlockTokens;
    for (int32_t i = 0; i < each * s.sequences; ++i) table.push_back(i);
    for (int32_t b = 0; b < s.sequences; ++b) {
      for (int32_t i = 0; i < s.rows; ++i) positions.push_back(i);
      query_start.push_back(query_start.back() + s.rows);
      context_len.push_back(s.rows);
      table_row.push_back(b);
    }
    for (const Block* block : {&q, &o, &dout, &pages}) fill(*block);
  }

  AttentionBackwardParams params(const Kind& kind) const {
    KvCache cache{};
    cache.data = pages.start();
    cache.dtype = kind.cache;
    cache.num_blocks = rows / kBlockTokens;
    cache.num_kv_heads = s.num_kv_heads;
    cache.head_dim = s.head_dim;
    cache.head_bytes = 2 * kBlockTokens * s.head_dim * dtype_bytes(kind.cache);
    cache.block_bytes = cache.head_bytes * s.num_kv_heads;
    AttentionBackwardParams p{};
    p.half = {
        rows,         s.sequences,          positions.data(), query_start.data(), context_len.data(), table_row.data(),
        table.data(), s.rows / kBlockTokens};
    p.num_heads = s.num_heads;
    p.q = {q.data, kind.act};
    p.cache = cache;
    p.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
    p.o = {o.data, kind.act};
    p.dout = dout.floats();
    p.dq = dq.floats();
    p.dkv = dkv.floats();
    p.dkv_width = kv_width;
    return p;
  }

  double work() const {
    const double pairs = 0.5 * s.rows * (s.rows + 1.0) * s.sequences;
    return 5 * 2.0 * pairs * s.num_heads * s.head_dim;
  }

  size_t bytes(int32_t columns) const { return static_cast<size_t>(rows) * static_cast<size_t>(columns) * 4; }

  Shape s;
  int32_t rows, width, kv_width;
  Block q, o, dout, dq, dkv, pages;
  std::vector<int32_t> table, positions, query_start{0}, context_len, table_row;
};

struct Run {
  const char* level;
  const Kind* kind;
  const cpu::TrainKernel<AttentionBackwardParams>* kernel;
  std::vector<double> times;
};

void measure(ThreadPool& pool, int threads, int repeats, bool scalar, const Shape& shape) {
  const Problem problem(shape);
  std::vector<Run> runs;
  for (const cpu::CpuLevel level : cpu::built_levels()) {
    if ((level == cpu::CpuLevel::scalar && !scalar) || !cpu::can_run(level, cpu::detect())) continue;
    for (const Kind& kind : kKinds)
      runs.push_back({cpu::level_name(level), &kind, &cpu::kernels_of(level)->train().attention_backward, {}});
  }
  std::vector<double> peak, peak_256;
  for (int i = 0; i < repeats; ++i) {
    peak.push_back(bench::peak_flops(pool, threads, false, 1 << 18));
    peak_256.push_back(bench::peak_flops_256(pool, threads, 1 << 18));
    for (Run& run : runs) {
      const AttentionBackwardParams p = problem.params(*run.kind);
      const Block scratch(run.kernel->scratch(p, threads));
      std::memset(scratch.data, 0, scratch.bytes);  // resident, as the scratch of a program is
      const cpu::Context c{&pool, threads, scratch.start(), scratch.bytes};
      pool.parallel_for(threads, threads, [](int64_t, int) {});  // awake, as after the op before it in a step
      const double start = bench::seconds();
      check(run.kernel->run(p, c));
      run.times.push_back(bench::seconds() - start);
    }
  }
  const double wide = median(peak), narrow = median(peak_256);
  std::printf("%s, %d x %d rows, %d/%d heads of %d; f32 peaks %.0f GFLOP/s, 256 bits %.0f\n", shape.name,
              shape.sequences, shape.rows, shape.num_heads, shape.num_kv_heads, shape.head_dim, wide / 1e9,
              narrow / 1e9);
  for (Run& run : runs) {
    const double time = median(run.times);
    std::printf("  %-7s %-5s %9.3f ms  %6.1f GFLOP/s (%4.1f%%)\n", run.level, run.kind->name, 1e3 * time,
                problem.work() / time / 1e9, 100 * problem.work() / time / wide);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 9;
  const bool scalar = argc > 3 && std::strcmp(argv[3], "all") == 0;
  if (threads < 1 || repeats < 1) {
    std::fprintf(stderr, "usage: bench_attention_backward [threads >= 1] [repeats >= 1] [all]\n");
    return 2;
  }
  ThreadPool pool(threads);
  for (const Shape& shape : kShapes) measure(pool, threads, repeats, scalar, shape);
  return 0;
}
