// How fast `linear` is, as a share of what this machine does in the same second: multiply-adds in registers for many
// rows, reads from memory for few. Peaks and kernel take turns; each line shows medians.
//
// Usage: bench_linear [threads] [repeats] [level]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "backends/cpu/avx512/gemm_plan.h"
#include "backends/cpu/level.h"
#include "backends/cpu/memory.h"
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
constexpr int64_t kRows[] = {1, 6, 8, 12, 16, 24, 32, 64, 512};

struct Block {
  explicit Block(size_t n) : bytes(n) { check(cpu::allocate(n, &data)); }
  Block(const Block&) = delete;
  ~Block() { cpu::release(data, bytes); }
  std::byte* at(size_t offset) const { return static_cast<std::byte*>(data) + offset; }
  size_t bytes;
  void* data = nullptr;
};

// Values of magnitude 2^-6 to 2^-5, in either type: real work for the multipliers, no subnormals.
void fill(const Block& block, DType dtype) {
  const uint32_t keep = dtype == DType::bf16 ? 0x807f807fu : 0x807fffffu;
  const uint32_t exponent = dtype == DType::bf16 ? 0x3c803c80u : 0x3c800000u;
  uint32_t r = 1;
  for (size_t i = 0; i < block.bytes / 4; ++i) {
    r = r * 1664525u + 1013904223u;
    static_cast<uint32_t*>(block.data)[i] = ((r ^ r >> 15) & keep) | exponent;
  }
}

double median(std::vector<double>& v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void run(cpu::CpuLevel level, ThreadPool& pool, int threads, int repeats, DType dtype, const Shape& shape, int64_t rows,
         const Block& w, const Block& a, const Block& y) {
  const bool bf16 = dtype == DType::bf16;
  const size_t matrix = static_cast<size_t>(shape.n * shape.k * dtype_bytes(dtype));
  LinearParams p{};
  p.rows = rows;
  p.a = {a.data, dtype};
  p.w = {nullptr, dtype, Layout::panels, shape.n, shape.k};
  p.accumulate = true;
  p.y = {y.data, DType::f32};
  const cpu::Kernels& kernels = *cpu::kernels_of(level);
  const Block scratch(kernels.linear_scratch(p, threads));
  const cpu::Context ctx{&pool, threads, scratch.at(0), scratch.bytes};

  std::vector<double> flops, bandwidth, peak, read;
  size_t next = 0;
  for (int i = 0; i < repeats; ++i) {
    peak.push_back(level == cpu::CpuLevel::avx512 ? bench::peak_flops(pool, threads, bf16, 1 << 18)
                                                  : bench::peak_flops_256(pool, threads, 1 << 18));
    read.push_back(bench::read_bandwidth(pool, threads, w.at(0), size_t{64} << 20));
    next = next + 2 * matrix <= w.bytes ? next + matrix : 0;
    p.w.data = w.at(next);
    const double start = bench::seconds();
    check(kernels.linear(p, ctx));
    const double time = bench::seconds() - start;
    flops.push_back(2.0 * static_cast<double>(rows * shape.n * shape.k) / time);
    bandwidth.push_back(static_cast<double>(matrix) / time);
  }
  const double f = median(flops), b = median(bandwidth), pf = median(peak), pb = median(read);
  std::printf("%-5s %-8s rows %4lld  %7.1f GFLOP/s (%5.1f%% of %6.1f)  %6.1f GB/s (%5.1f%% of %5.1f)  best %7.1f\n",
              dtype_name(dtype), shape.name, static_cast<long long>(rows), f / 1e9, 100 * f / pf, pf / 1e9, b / 1e9,
              100 * b / pb, pb / 1e9, flops.back() / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 15;
  const auto [level, why] = cpu::choose_level(cpu::detect(), cpu::built_levels(), argc > 3 ? argv[3] : "avx512");
  if (threads < 1 || repeats < 1 || !level || *level == cpu::CpuLevel::scalar) {
    std::fprintf(stderr, "usage: bench_linear [threads >= 1] [repeats >= 1] [avx512|avx2]\n%s\n", why.c_str());
    return 2;
  }
  ThreadPool pool(threads);
  const Block w(kWeightBytes), a(512 * 8192 * 4), y(512 * 16384 * 4);
  for (const DType dtype : {DType::bf16, DType::f32}) {
    fill(w, dtype);
    fill(a, dtype);
    for (const Shape& shape : kShapes) {
      char plan[200];
      cpu::avx512::describe(cpu::avx512::plan_gemm(dtype, 512, shape.n, shape.k, 1, threads), plan, sizeof plan);
      std::printf("%s [%lld, %lld], 512 rows: %s\n", shape.name, static_cast<long long>(shape.n),
                  static_cast<long long>(shape.k), plan);
      for (const int64_t rows : kRows) run(*level, pool, threads, repeats, dtype, shape, rows, w, a, y);
    }
  }
  return 0;
}
