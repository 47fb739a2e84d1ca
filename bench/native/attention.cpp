// How fast attention is, as a share of what this machine does in the same second: decode against reads from memory,
// prefill against multiply-adds in registers. Peaks and kernel take turns; each line shows medians.
//
// Usage: bench_attention [threads] [repeats]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "backends/cpu/avx512/ops.h"
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
constexpr Heads kHeads[] = {{"1B", 32, 8, 64}, {"3B", 24, 8, 128}, {"8B", 32, 8, 128}};
constexpr int32_t kPrefillRows = 512;

struct Block {
  explicit Block(size_t n) : bytes(n) { check(cpu::allocate(n, &data)); }
  Block(const Block&) = delete;
  ~Block() { cpu::release(data, bytes); }
  std::byte* at(size_t offset) const { return static_cast<std::byte*>(data) + offset; }
  size_t bytes;
  void* data = nullptr;
};

// Any bytes are numbers of moderate size when the top exponent bits are kept: the second and fourth byte of a word are
// the upper halves of bf16, and every one may be an fp8 code or part of an f32.
void fill(const Block& block) {
  uint32_t r = 1;
  for (size_t i = 0; i < block.bytes / 4; ++i) {
    r = r * 1664525u + 1013904223u;
    static_cast<uint32_t*>(block.data)[i] = ((r ^ r >> 15) & 0x807f807fu) | 0x3c003c00u;
  }
}

double median(std::vector<double>& v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

enum class Pages { ascending, shuffled };  // a fresh pool hands blocks out in order, a used one does not

struct Case {
  Heads heads;
  DType q_dtype, cache_dtype;
  int32_t sequences, rows, context;  // rows of each sequence, the last of its context
  Pages pages;
};

void run(ThreadPool& pool, int threads, int repeats, const Case& c, const Block& memory, const Block& q,
         const Block& o) {
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
  const int64_t scales = c.cache_dtype == DType::fp8_e4m3 ? 2 * kBlockTokens * 4 : 0;
  p.cache.dtype = c.cache_dtype;
  p.cache.scales = scales > 0 ? KvScales::dynamic : KvScales::none;
  p.cache.num_blocks = blocks;
  p.cache.num_kv_heads = c.heads.num_kv_heads;
  p.cache.head_dim = c.heads.head_dim;
  p.cache.head_bytes = 2 * kBlockTokens * c.heads.head_dim * dtype_bytes(c.cache_dtype) + scales;
  p.cache.block_bytes = p.cache.head_bytes * c.heads.num_kv_heads;
  const size_t bytes = static_cast<size_t>(p.cache.block_bytes * blocks);
  const bool decode = c.rows == 1;
  const Block scratch(decode ? cpu::avx512::attention_decode_scratch(p, threads)
                             : cpu::avx512::attention_prefill_scratch(p, threads));
  const cpu::Context ctx{&pool, threads, scratch.at(0), scratch.bytes};
  double keys = 0;
  for (const int32_t position : positions) keys += position + 1;
  const double work = 4.0 * keys * c.heads.num_heads * c.heads.head_dim;

  std::vector<double> flops, bandwidth, peak, read;
  size_t next = 0;
  for (int i = 0; i < repeats; ++i) {
    peak.push_back(bench::peak_flops(pool, threads, true, 1 << 18));
    read.push_back(bench::read_bandwidth(pool, threads, memory.at(0), kReadBytes));
    next = next + 2 * bytes <= memory.bytes ? next + bytes : 0;
    p.cache.data = memory.at(next);
    const double start = bench::seconds();
    check(decode ? cpu::avx512::attention_decode(p, ctx) : cpu::avx512::attention_prefill(p, ctx));
    const double time = bench::seconds() - start;
    flops.push_back(work / time);
    bandwidth.push_back(static_cast<double>(bytes) / time);
  }
  const double f = median(flops), b = median(bandwidth), pf = median(peak), pb = median(read);
  std::printf(
      "q %-4s cache %-8s %s %d x %3d rows, context %4d%s  %6.1f GFLOP/s (%5.1f%% of %6.1f)  %5.1f GB/s (%5.1f%% of "
      "%5.1f)\n",
      dtype_name(c.q_dtype), dtype_name(c.cache_dtype), c.heads.name, c.sequences, c.rows, c.context,
      c.pages == Pages::shuffled ? " shuffled" : "         ", f / 1e9, 100 * f / pf, pf / 1e9, b / 1e9, 100 * b / pb,
      pb / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 15;
  if (threads < 1 || repeats < 1) {
    std::fprintf(stderr, "usage: bench_attention [threads >= 1] [repeats >= 1]\n");
    return 2;
  }
  ThreadPool pool(threads);
  const Block memory(kCacheBytes), q(size_t{kPrefillRows} * 32 * 128 * 4), o(q.bytes);
  fill(memory);
  fill(q);
  for (const DType q_dtype : {DType::bf16, DType::f32}) {
    for (const DType dtype : {DType::bf16, DType::fp8_e4m3}) {
      for (const Heads& heads : kHeads) {
        const auto bench = [&](int32_t sequences, int32_t rows, int32_t context, Pages pages) {
          run(pool, threads, repeats, {heads, q_dtype, dtype, sequences, rows, context, pages}, memory, q, o);
        };
        bench(1, 1, 8192, Pages::ascending);
        bench(1, 1, 8192, Pages::shuffled);
        bench(8, 1, 1000, Pages::ascending);
        bench(1, kPrefillRows, 2048, Pages::ascending);
        bench(1, kPrefillRows, 8192, Pages::ascending);
      }
    }
  }
  return 0;
}
