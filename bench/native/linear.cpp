// How fast `linear` is, as a share of what this machine does in the same second (multiply-adds in registers for many
// rows, reads from memory for few), and how many times as fast as with bf16 weights. Peaks and kernels of all weights
// take turns; each line shows medians.
//
// Usage: bench_linear [threads] [repeats] [level] [rows]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <vector>

#include "backends/cpu/avx512/gemm_plan.h"
#include "backends/cpu/level.h"
#include "backends/cpu/memory.h"
#include "backends/cpu/pack.h"
#include "bench/native/machine_peaks.h"

namespace {

using namespace swiftkv;

// Weights are taken in turn from a block larger than every cache.
constexpr size_t kWeightBytes = size_t{512} << 20;

struct Shape {
  const char* name;
  int64_t n, k;
};
// The products of Llama-3.2-1B.
constexpr Shape kShapes[] = {{"qkv", 3072, 2048}, {"o", 2048, 2048}, {"gate_up", 16384, 2048}, {"down", 2048, 8192}};
constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 64, 512};

struct Block {
  explicit Block(size_t n) : bytes(n) { check(cpu::allocate(n, &data)); }
  Block(const Block&) = delete;
  ~Block() { cpu::release(data, bytes); }
  std::byte* at(size_t offset) const { return static_cast<std::byte*>(data) + offset; }
  size_t bytes;
  void* data = nullptr;
};

// Weights and the activations that meet them. The first are what the others are compared with.
struct Kind {
  const char* name;
  DType weights, a;
  bool fp8_activations;
};
constexpr Kind kKinds[] = {
    {"bf16", DType::bf16, DType::bf16, false},         {"f32", DType::f32, DType::f32, false},
    {"fp8", DType::fp8_e4m3, DType::bf16, false},      {"fp8 x f32", DType::fp8_e4m3, DType::f32, false},
    {"fp8 x fp8", DType::fp8_e4m3, DType::bf16, true}, {"int8", DType::int8, DType::bf16, false},
    {"int4", DType::int4, DType::bf16, false},
};
constexpr size_t kNumKinds = std::size(kKinds);

// Bits that are numbers of ordinary size in every dtype: bf16 and the halves of f32 of magnitude 2^-7 to 2^-6, f16
// scales near 1, codes of all kinds. Real work for the multipliers, no subnormals.
void fill(const Block& block) {
  uint32_t r = 1;
  for (size_t i = 0; i < block.bytes / 4; ++i) {
    r = r * 1664525u + 1013904223u;
    static_cast<uint32_t*>(block.data)[i] = ((r ^ r >> 15) & 0x80ff80ffu) | 0x3c003c00u;
  }
}

double median(std::vector<double>& v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void run(cpu::CpuLevel level, ThreadPool& pool, int threads, int repeats, const Shape& shape, int64_t rows,
         const Block& w, const Block& a, const Block& y) {
  const cpu::Kernels& kernels = *cpu::kernels_of(level);
  std::vector<double> times[kNumKinds], peaks[2], read;
  size_t next = 0;
  for (int i = 0; i < repeats; ++i) {
    for (const bool bf16 : {false, true})
      peaks[bf16].push_back(level == cpu::CpuLevel::avx512 ? bench::peak_flops(pool, threads, bf16, 1 << 16)
                                                           : bench::peak_flops_256(pool, threads, 1 << 16));
    read.push_back(bench::read_bandwidth(pool, threads, w.at(0), size_t{64} << 20));
    for (size_t kind = 0; kind < kNumKinds; ++kind) {
      const DType dtype = kKinds[kind].weights;
      LinearParams p{};
      p.rows = rows;
      p.a = {a.data, kKinds[kind].a};
      p.w = {nullptr, dtype, Layout::panels, shape.n, shape.k};
      p.accumulate = true;
      p.y = {y.data, DType::f32};
      p.fp8_activations = kKinds[kind].fp8_activations;
      const Block scratch(kernels.linear_scratch == nullptr ? 0 : kernels.linear_scratch(p, threads));
      if (scratch.bytes > 0) std::memset(scratch.data, 0, scratch.bytes);
      const cpu::Context ctx{&pool, threads, scratch.at(0), scratch.bytes};
      const size_t matrix = (cpu::matrix_bytes(dtype, Layout::panels, shape.n, shape.k) + 63) / 64 * 64;
      next = next + 2 * matrix <= w.bytes ? next + matrix : 0;
      p.w.data = w.at(next);
      const double start = bench::seconds();
      check(kernels.linear(p, ctx));
      times[kind].push_back(bench::seconds() - start);
    }
  }
  const double bandwidth = median(read), baseline = median(times[0]);
  for (size_t kind = 0; kind < kNumKinds; ++kind) {
    const Kind& k = kKinds[kind];
    const double time = median(times[kind]);
    const double flops = 2.0 * static_cast<double>(rows * shape.n * shape.k) / time;
    const double peak = median(peaks[k.weights != DType::f32]);
    const double bytes = static_cast<double>(cpu::matrix_bytes(k.weights, Layout::panels, shape.n, shape.k)) / time;
    std::printf("%-9s %-8s rows %4lld  %5.2f x bf16  %7.1f GFLOP/s (%5.1f%% of %6.1f %s)  %6.1f GB/s (%5.1f%%)\n",
                k.name, shape.name, static_cast<long long>(rows), baseline / time, flops / 1e9, 100 * flops / peak,
                peak / 1e9, k.weights == DType::f32 ? "f32" : "bf16", bytes / 1e9, 100 * bytes / bandwidth);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 15;
  const auto [level, why] = cpu::choose_level(cpu::detect(), cpu::built_levels(), argc > 3 ? argv[3] : "avx512");
  if (threads < 1 || repeats < 1 || !level || *level == cpu::CpuLevel::scalar) {
    std::fprintf(stderr, "usage: bench_linear [threads >= 1] [repeats >= 1] [avx512|avx2] [rows]\n%s\n", why.c_str());
    return 2;
  }
  ThreadPool pool(threads);
  const int64_t only = argc > 4 ? std::atoll(argv[4]) : 0;
  const Block w(kWeightBytes), a(512 * 8192 * 4), y(512 * 16384 * 4);
  fill(w);
  fill(a);
  std::memset(y.data, 0, y.bytes);
  for (const Shape& shape : kShapes) {
    char plan[200];
    cpu::avx512::describe(cpu::avx512::plan_gemm(DType::bf16, 512, shape.n, shape.k, 1, threads), plan, sizeof plan);
    std::printf("%s [%lld, %lld], bf16, 512 rows: %s\n", shape.name, static_cast<long long>(shape.n),
                static_cast<long long>(shape.k), plan);
    for (const int64_t rows : kRows)
      if (only == 0 || only == rows) run(*level, pool, threads, repeats, shape, rows, w, a, y);
  }
  return 0;
}
