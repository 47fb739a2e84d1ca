// attention: against a contiguous softmax in double, and row invariance over chunks, batches, pages and threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention_case.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

struct Problem : AttentionCase {
  using AttentionCase::AttentionCase;

  std::vector<float> run(const LevelDevice& device, OpKind kind = OpKind::attention) {
    o = Tensor(o.dtype, o.count);
    const AttentionParams p = params();
    CHECK(device.run(kind, &p).ok());
    return o.floats();
  }
};

// The avx512 level rounds queries and probabilities to bf16 over an fp8 cache.
Exact exact(const Problem& p, cpu::CpuLevel level) {
  const bool rounded = level == cpu::CpuLevel::avx512 && p.cache.shape.dtype == DType::fp8_e4m3;
  return exact(p, rounded ? kUnitBf16 : 0.0);
}

TEST_CASE("attention equals a contiguous double softmax at every level") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const HeadShape& heads : kHeadShapes)
      for (const CacheKind& kind : kCacheKinds)
        for (DType type : {DType::f32, DType::bf16}) {
          const auto& sequences = kBatches[static_cast<size_t>(heads.head_dim + heads.num_heads) % kBatches.size()];
          INFO("Hq ", heads.num_heads, " Hk ", heads.num_kv_heads, " hd ", heads.head_dim, " cache ", text(kind.name),
               " q ", text(dtype_name(type)), " first context ", sequences[0].context_len);
          Problem p(heads, kind, type, sequences, 1);
          const Exact e = exact(p, level);
          CHECK(difference(p.run(device), e.o, [&](size_t i) { return e.allowed[i]; }) == "");
        }
  });
}

TEST_CASE("attention handles every mix of decode, prefill and empty sequences") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (const auto& sequences : kBatches)
      for (const CacheKind& kind : kCacheKinds)
        for (DType type : {DType::f32, DType::bf16}) {
          INFO("cache ", text(kind.name), " q ", text(dtype_name(type)), " first context ", sequences[0].context_len);
          Problem p({4, 2, 32}, kind, type, sequences, 2);
          const Exact e = exact(p, level);
          CHECK(difference(p.run(device), e.o, [&](size_t i) { return e.allowed[i]; }) == "");
        }
  });
}

TEST_CASE("attention_decode and attention_prefill give the same bits for every row") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    // Widths with and without whole vectors of words, and few rows: decode may read pages that prefill packs.
    for (const HeadShape& heads : {HeadShape{6, 2, 80}, HeadShape{8, 2, 64}, HeadShape{2, 1, 96}})
      for (const CacheKind& kind : kCacheKinds)
        for (DType type : {DType::f32, DType::bf16}) {
          INFO("hd ", heads.head_dim, " cache ", text(kind.name), " q ", text(dtype_name(type)));
          Problem p(heads, kind, type, {{301, 1}, {20, 1}, {256, 1}}, 3);
          const std::vector<float> decode = p.run(device, OpKind::attention_decode);
          CHECK(bit_difference(p.run(device, OpKind::attention_prefill), decode) == "");
          CHECK(bit_difference(p.run(device), decode) == "");
        }
  });
}

// The rows [first, first + count) of a one-sequence problem, as a later chunk sees them: keys end with the chunk.
void run_chunk(const LevelDevice& device, const Problem& p, int64_t first, int64_t count, const Tensor& o) {
  Half chunk = p.half;
  const auto begin = p.half.positions.begin() + first;
  chunk.positions.assign(begin, begin + count);
  chunk.query_start = {0, static_cast<int32_t>(count)};
  chunk.context_len = {chunk.positions.back() + 1};
  const int64_t width = int64_t{p.heads.num_heads} * p.heads.head_dim;
  const AttentionParams params{chunk.view(),
                               QuerySelect::all,
                               p.heads.num_heads,
                               p.q.activation_at(first * width),
                               p.cache.view(),
                               p.scale(),
                               o.activation_at(first * width)};
  CHECK(device.run(OpKind::attention, &params).ok());
}

TEST_CASE("attention: chunks of any size, decode steps and threads give the bits of the whole prompt") {
  for_each_level([](cpu::CpuLevel level) {
    for (const HeadShape& heads : {HeadShape{2, 1, 64}, HeadShape{3, 1, 80}, HeadShape{4, 2, 16}})
      for (const CacheKind& kind : kCacheKinds)
        for (DType type : {DType::f32, DType::bf16}) {
          if (type == (heads.head_dim == 80 ? DType::f32 : DType::bf16) && heads.head_dim != 64) continue;
          INFO("hd ", heads.head_dim, " cache ", text(kind.name), " q ", text(dtype_name(type)));
          const int32_t length = 261;
          Problem p(heads, kind, type, {{length, length}}, 4);
          const std::vector<float> whole = p.run(LevelDevice(level));
          for (int threads : {1, 2, 3}) {
            if (threads > 1 && heads.head_dim != 64) continue;
            const LevelDevice device(level, threads);
            CHECK(bit_difference(p.run(device), whole) == "");
            for (int64_t size : {1, 7, 16}) {
              if (threads > 1 && size != 16) continue;
              INFO("threads ", threads, " chunks of ", size);
              // As it happens in a run: pages are written chunk by chunk, what is not yet written is NaN.
              Problem fresh = p;
              fresh.cache = Cache(p.cache.shape, p.cache.num_blocks);
              Tensor o(type, p.o.count);
              for (int64_t first = 0; first < length; first += size) {
                const int64_t count = std::min<int64_t>(size, length - first);
                write_pages(fresh.cache, fresh.half, fresh.contents, first, first + count);
                run_chunk(device, fresh, first, count, o);
              }
              CHECK(bit_difference(o.floats(), whole) == "");
            }
          }
        }
  });
}

TEST_CASE("attention: a sequence's bits do not depend on its neighbours nor on where its blocks lie") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    const HeadShape heads{6, 3, 48};
    const int64_t width = 6 * 48;
    const std::vector<Sequence> sequences{{270, 9}, {31, 1}, {64, 64}, {300, 1}, {5, 5}};
    for (const CacheKind& kind : kCacheKinds)
      for (DType type : {DType::f32, DType::bf16}) {
        INFO("cache ", text(kind.name), " q ", text(dtype_name(type)));
        Problem together(heads, kind, type, sequences, 5);
        const std::vector<float> all = together.run(device), q = together.q.floats();
        for (size_t b = 0; b < sequences.size(); ++b) {
          Problem alone(heads, kind, type, {sequences[b]}, 100 + b);
          const auto begin = static_cast<size_t>(together.half.query_start[b] * width);
          const auto end = static_cast<size_t>(together.half.query_start[b + 1] * width);
          const auto slice = [&](const std::vector<float>& v) {
            return std::vector<float>(v.begin() + static_cast<std::ptrdiff_t>(begin),
                                      v.begin() + static_cast<std::ptrdiff_t>(end));
          };
          alone.contents = {{together.contents.k[b]}, {together.contents.v[b]}};
          write_pages(alone.cache, alone.half, alone.contents);
          alone.q = Tensor(type, slice(q));
          CHECK(bit_difference(alone.run(device), slice(all)) == "");
        }
      }
  });
}

TEST_CASE("attention never lets a later token of the same step into an earlier row") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (const CacheKind& kind : kCacheKinds)
      for (DType type : {DType::f32, DType::bf16}) {
        INFO("cache ", text(kind.name), " q ", text(dtype_name(type)));
        Problem p({4, 2, 64}, kind, type, {{40, 40}}, 6);
        const std::vector<float> clean = p.run(device);
        // Position 20 onwards turns to NaN: rows 0..19 must not notice, all others must.
        Contents poisoned = p.contents;
        for (size_t i = 20 * 2 * 64; i < poisoned.k[0].size(); ++i) poisoned.k[0][i] = poisoned.v[0][i] = NAN;
        write_pages(p.cache, p.half, poisoned);
        const std::vector<float> dirty = p.run(device);
        const size_t edge = 20 * 4 * 64;
        CHECK(bit_difference(dirty.data(), clean.data(), edge * 4, 4) == "");
        size_t finite = 0;
        for (size_t i = edge; i < dirty.size(); ++i) finite += std::isfinite(dirty[i]);
        CHECK(finite == 0);
      }
  });
}

TEST_CASE("attention survives scores far apart: one key takes all, and splits merge without overflow") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (const int32_t winner : {3, 255, 256, 511, 520}) {
      Problem p({1, 1, 16}, kCacheKinds[0], DType::f32, {{521, 1}}, 7);
      p.q = Tensor(DType::f32, std::vector<float>(16, 100.0f));
      for (float& x : p.contents.k[0]) x = -100.0f;
      for (size_t i = 0; i < 16; ++i) p.contents.k[0][static_cast<size_t>(winner) * 16 + i] = 100.0f;
      write_pages(p.cache, p.half, p.contents);
      const auto begin = p.contents.v[0].begin() + winner * 16;
      CHECK(bit_difference(p.run(device), std::vector<float>(begin, begin + 16)) == "");
    }
  });
}

TEST_CASE("attention with no rows touches nothing") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    Problem p({2, 1, 16}, kCacheKinds[1], DType::bf16, {{20, 0}, {7, 0}}, 8);
    CHECK(p.run(device).empty());
    Problem none({2, 1, 16}, kCacheKinds[1], DType::bf16, {}, 8);
    CHECK(none.run(device).empty());
  });
}

}  // namespace
}  // namespace swiftkv::test
