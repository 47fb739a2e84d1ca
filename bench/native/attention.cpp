// How fast attention is, as a share of what this machine does in the same second: decode against reads from memory,
// prefill against multiply-adds in registers. Peaks and the caches' dtypes take turns; each line shows medians.
//
// Usage: bench_attention [threads] [repeats] [level] [decode|prefill]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "backends/cpu/level.h"
#include "backends/cpu/memory.h"
#include "bench/native/machine_peaks.h"
#include "core/random.h"

namespace {

using namespace swiftkv;

// Caches are taken in turn from a block larger than every cache of the processor.
constexpr size_t kCacheBytes = size_t{512} << 20;
constexpr size_t kReadBytes = size_t{64} << 20;

struct Heads {
  const char* name;
  int32_t num_heads, num_kv_heads, head_dim;
};
constexpr Heads kHeads[] = {{"1B", 32, 8, 64}, {"8B", 32, 8, 128}};
constexpr DType kCaches[] = {DType::bf16, DType::fp8_e4m3, DType::f32};
constexpr int32_t kPrefillRows = 512;

struct Block {
  explicit Block(size_t n) : bytes(n) { check(cpu::allocate(n, &data)); }
  Block(const Block&) = delete;
  ~Block() { cpu::release(data, bytes); }
  std::byte* at(size_t offset) const { return static_cast<std::byte*>(data) + offset; }
  size_t bytes;
  void* data = nullptr;
};

// Values of magnitude 2^-7 to 1 in bf16 and f32, and any fp8 codes but NaN: real work for the multipliers.
void fill(const Block& block) {
  uint32_t r = 1;
  for (size_t i = 0; i < block.bytes / 4; ++i) {
    r = r * 1664525u + 1013904223u;
    static_cast<uint32_t*>(block.data)[i] = ((r ^ r >> 15) & 0x83778377u) | 0x3c003c00u;
  }
}

double median(std::vector<double>& v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

enum class Pages { ascending, shuffled };  // a fresh pool hands blocks out in order, a used one does not

struct Case {
  Heads heads;
  DType q_dtype;
  int32_t sequences, rows, context;  // rows of each sequence, the last of its context
  Pages pages;
};

KvCache cache_of(const Heads& heads, DType dtype, int32_t blocks) {
  KvCache c{};
  const int64_t scales = dtype == DType::fp8_e4m3 ? 2 * kBlockTokens * int64_t{sizeof(float)} : 0;
  c.dtype = dtype;
  c.scales = scales > 0 ? KvScales::dynamic : KvScales::none;
  c.num_blocks = blocks;
  c.num_kv_heads = heads.num_kv_heads;
  c.head_dim = heads.head_dim;
  c.head_bytes = 2 * kBlockTokens * heads.head_dim * dtype_bytes(dtype) + scales;
  c.block_bytes = c.head_bytes * heads.num_kv_heads;
  return c;
}

void run(const cpu::Kernels& kernels, ThreadPool& pool, int threads, int repeats, bool bf16_peak, const Case& c,
         const Block& memory, const Block& q, const Block& o) {
  const int32_t blocks_each = (c.context + kBlockTokens - 1) / kBlockTokens, blocks = blocks_each * c.sequences;
  std::vector<int32_t> table(static_cast<size_t>(blocks)), positions, query_start{0}, context_len, table_row;
  for (int32_t i = 0; i < blocks; ++i) table[static_cast<size_t>(i)] = i;
  for (size_t i = c.pages == Pages::shuffled ? table.size() : 0; i > 1; --i)
    std::swap(table[i - 1], table[mix64(i) % i]);
  for (int32_t b = 0; b < c.sequences; ++b) {
    for (int32_t i = 0; i < c.rows; ++i) positions.push_back(c.context - c.rows + i);
    query_start.push_back(query_start.back() + c.rows);
    context_len.push_back(c.context);
    table_row.push_back(b);
  }
  AttentionParams p{};
  p.half = {c.sequences * c.rows, c.sequences,      positions.data(), query_start.data(),
            context_len.data(),   table_row.data(), table.data(),     blocks_each};
  p.num_heads = c.heads.num_heads;
  p.q = {q.data, c.q_dtype};
  p.o = {o.data, DType::bf16};
  p.scale = 1.0f / std::sqrt(static_cast<float>(c.heads.head_dim));
  const bool decode = c.rows == 1;
  double keys = 0;
  for (const int32_t position : positions) keys += position + 1;
  const double work = 4.0 * keys * c.heads.num_heads * c.heads.head_dim;

  size_t scratch_bytes = 0;
  for (const DType dtype : kCaches) {
    p.cache = cache_of(c.heads, dtype, blocks);
    const size_t n =
        decode ? kernels.attention_decode_scratch(p, threads) : kernels.attention_prefill_scratch(p, threads);
    scratch_bytes = std::max(scratch_bytes, n);
  }
  const Block scratch(scratch_bytes);
  std::memset(scratch.data, 0, scratch.bytes);  // resident, as the scratch of a program is

  std::vector<double> peak, read, times[std::size(kCaches)];
  size_t next = 0;
  for (int i = 0; i < repeats; ++i) {
    peak.push_back(bf16_peak ? bench::peak_flops(pool, threads, true, 1 << 18)
                             : bench::peak_flops_256(pool, threads, 1 << 18));
    read.push_back(bench::read_bandwidth(pool, threads, memory.at(0), kReadBytes));
    for (size_t kind = 0; kind < std::size(kCaches); ++kind) {
      p.cache = cache_of(c.heads, kCaches[kind], blocks);
      const auto bytes = static_cast<size_t>(p.cache.block_bytes * blocks);
      next = next + bytes <= memory.bytes ? next : 0;
      p.cache.data = memory.at(next);
      next += (bytes + 4095) / 4096 * 4096;
      const cpu::Context ctx{&pool, threads, scratch.at(0), scratch.bytes};
      pool.parallel_for(threads, threads, [](int64_t, int) {});  // awake, as after the op before it in a step
      const double start = bench::seconds();
      check(decode ? kernels.attention_decode(p, ctx) : kernels.attention_prefill(p, ctx));
      times[kind].push_back(bench::seconds() - start);
    }
  }
  const double pf = median(peak), pb = median(read), bf16_time = median(times[0]);
  std::printf("%s, %d x %d rows, context %d%s, q %s; peaks %.0f GFLOP/s, %.1f GB/s\n", c.heads.name, c.sequences,
              c.rows, c.context, c.pages == Pages::shuffled ? ", blocks shuffled" : "", dtype_name(c.q_dtype), pf / 1e9,
              pb / 1e9);
  for (size_t kind = 0; kind < std::size(kCaches); ++kind) {
    const double time = median(times[kind]);
    const double bytes =
        static_cast<double>(cache_of(c.heads, kCaches[kind], blocks).block_bytes) * static_cast<double>(blocks);
    std::printf("  %-8s %8.3f ms  %6.1f GFLOP/s (%4.1f%%)  %5.1f GB/s (%4.1f%%)  %.2fx the bf16 cache\n",
                dtype_name(kCaches[kind]), 1e3 * time, work / time / 1e9, 100 * work / time / pf, bytes / time / 1e9,
                100 * bytes / time / pb, bf16_time / time);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 15;
  const auto [level, why] = cpu::choose_level(cpu::detect(), cpu::built_levels(), argc > 3 ? argv[3] : "avx512");
  const char* only = argc > 4 ? argv[4] : "";
  if (threads < 1 || repeats < 1 || !level || *level == cpu::CpuLevel::scalar) {
    std::fprintf(stderr, "usage: bench_attention [threads >= 1] [repeats >= 1] [avx512|avx2] [decode|prefill]\n%s\n",
                 why.c_str());
    return 2;
  }
  const cpu::Kernels& kernels = *cpu::kernels_of(*level);
  const bool bf16_peak = *level == cpu::CpuLevel::avx512;
  ThreadPool pool(threads);
  const Block memory(kCacheBytes), q(size_t{kPrefillRows} * 32 * 128 * sizeof(float)), o(q.bytes);
  fill(memory);
  fill(q);
  for (const DType q_dtype : {DType::f32, DType::bf16}) {
    for (const Heads& heads : kHeads) {
      const auto bench = [&](int32_t sequences, int32_t rows, int32_t context, Pages pages) {
        if (std::strcmp(only, rows == 1 ? "prefill" : "decode") == 0) return;
        run(kernels, pool, threads, repeats, bf16_peak, {heads, q_dtype, sequences, rows, context, pages}, memory, q,
            o);
      };
      bench(1, 1, 8192, Pages::ascending);
      bench(1, 1, 8192, Pages::shuffled);
      bench(4, 1, 8192, Pages::shuffled);
      bench(1, kPrefillRows, 2048, Pages::ascending);
      bench(1, kPrefillRows, 8192, Pages::ascending);
    }
  }
  return 0;
}
