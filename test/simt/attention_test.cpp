// attention, attention_decode and attention_prefill: against a softmax in double over the decoded cache, and the bits
// of a row in every kernel, chunking, batch and schedule.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "attention_case.h"
#include "chunks.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

using Op = Status (*)(const AttentionParams&, const cuda::Context&);

// Queries and probabilities of f32 are two bf16 parts on tensor cores: 8 + 8 bits and a sign between them.
constexpr double kTwoParts = 0x1p-17;

std::vector<float> run(AttentionCase& c, const SimtDevice& device, Op op = &cuda::attention) {
  c.o = Tensor(c.o.dtype, c.o.count);
  CHECK(why(device.run(op, c.params(), &cuda::attention_scratch)) == "");
  return c.o.floats();
}

void check_exact(AttentionCase& c, const SimtDevice& device, Op op = &cuda::attention) {
  const Exact e = exact(c, kTwoParts);
  CHECK(difference(run(c, device, op), e.o, [&](size_t i) { return e.allowed[i]; }) == "");
}

std::string text(const HeadShape& heads, const CacheKind& kind, DType q) {
  return "Hq " + std::to_string(heads.num_heads) + " Hk " + std::to_string(heads.num_kv_heads) + " hd " +
         std::to_string(heads.head_dim) + " cache " + kind.name + " q " + dtype_name(q);
}

template <class F>
void for_each_type(const HeadShape& heads, F&& f) {
  for (const CacheKind& kind : kCacheKinds)
    for (const DType q : {DType::f32, DType::bf16}) {
      const std::string what = text(heads, kind, q);
      INFO(what);
      f(kind, q);
    }
}

std::vector<HeadShape> all_heads() {
  std::vector<HeadShape> all = kHeadShapes;
  for (const HeadShape& h : {HeadShape{3, 1, 256}, HeadShape{18, 1, 64}, HeadShape{2, 1, 512}, HeadShape{2, 2, 6}})
    all.push_back(h);
  return all;
}

TEST_CASE("attention equals a contiguous double softmax for every head width and group") {
  const SimtDevice device;
  size_t next = 0;
  for (const HeadShape& heads : all_heads()) {
    const auto& sequences = kBatches[next++ % kBatches.size()];
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      AttentionCase c(heads, kind, q, sequences, 1);
      check_exact(c, device);
    });
  }
}

TEST_CASE("attention handles every mix of decode, prefill and empty sequences") {
  const SimtDevice device;
  for (const HeadShape& heads : {HeadShape{4, 2, 32}, HeadShape{2, 1, 16}})
    for (const auto& sequences : kBatches)
      for_each_type(heads, [&](const CacheKind& kind, DType q) {
        INFO("first context ", sequences[0].context_len);
        AttentionCase c(heads, kind, q, sequences, 2);
        check_exact(c, device);
      });
}

TEST_CASE("attention at every edge of blocks, tiles and splits") {
  const std::vector<Sequence> decode{{1, 1},   {15, 1},  {16, 1},  {17, 1},  {31, 1},  {33, 1},  {255, 1},
                                     {256, 1}, {257, 1}, {511, 1}, {512, 1}, {513, 1}, {1025, 1}};
  const std::vector<Sequence> prefill{{17, 17}, {258, 5}, {514, 5}, {64, 64}, {65, 65}, {1030, 2}};
  const SimtDevice device;
  for (const auto& sequences : {decode, prefill})
    for_each_type({4, 2, 32}, [&](const CacheKind& kind, DType q) {
      AttentionCase c({4, 2, 32}, kind, q, sequences, 3);
      check_exact(c, device);
    });
}

TEST_CASE("attention over 4,096 keys") {
  const SimtDevice device;
  for (const HeadShape& heads : {HeadShape{4, 1, 32}, HeadShape{1, 1, 8}})
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      AttentionCase c(heads, kind, q, {{4096, 1}, {4095, 3}}, 4);
      check_exact(c, device);
    });
}

TEST_CASE("attention writes outputs of either type, whatever the queries are") {
  const SimtDevice device;
  for (const HeadShape& heads : {HeadShape{4, 2, 64}, HeadShape{4, 2, 24}})
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      AttentionCase c(heads, kind, q, {{20, 1}, {9, 3}}, 5);
      const std::vector<float> same = run(c, device);
      const DType other = q == DType::f32 ? DType::bf16 : DType::f32;
      c.o = Tensor(other, c.o.count);
      std::vector<float> out = run(c, device);
      const auto rounded = [](const std::vector<float>& x) { return Tensor(DType::bf16, x).floats(); };
      CHECK(bit_difference(rounded(out), rounded(same)) == "");
    });
}

TEST_CASE("a decoded row has the bits of the same row in prefill, with splits apart and together") {
  for (const HeadShape& heads : {HeadShape{3, 1, 80}, HeadShape{4, 2, 64}, HeadShape{2, 1, 96}, HeadShape{2, 1, 256},
                                 HeadShape{18, 1, 32}, HeadShape{1, 1, 128}})
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      AttentionCase c(heads, kind, q, {{301, 1}, {20, 1}, {256, 1}, {heads.head_dim == 64 ? 1300 : 513, 1}}, 6);
      const std::vector<float> prefill = run(c, SimtDevice(), &cuda::attention_prefill);
      // One multiprocessor has enough blocks without splits apart; with very many, every split has a block of its own.
      for (const int num_sms : {1, 1 << 20}) {
        INFO("multiprocessors ", num_sms);
        CHECK(bit_difference(run(c, SimtDevice(chip_of(num_sms)), &cuda::attention_decode), prefill) == "");
      }
      CHECK(bit_difference(run(c, SimtDevice()), prefill) == "");
    });
}

// The rows [first, first + count) of a one-sequence case, as a later chunk sees them: keys end with the chunk.
void run_chunk(const SimtDevice& device, const AttentionCase& c, int64_t first, int64_t count, const Tensor& o) {
  Half chunk = c.half;
  const auto begin = c.half.positions.begin() + first;
  chunk.positions.assign(begin, begin + count);
  chunk.query_start = {0, static_cast<int32_t>(count)};
  chunk.context_len = {chunk.positions.back() + 1};
  const int64_t width = int64_t{c.heads.num_heads} * c.heads.head_dim;
  AttentionParams p = c.params();
  p.half = chunk.view();
  p.q = c.q.activation_at(first * width);
  p.o = o.activation_at(first * width);
  CHECK(why(device.run(&cuda::attention, p, &cuda::attention_scratch)) == "");
}

TEST_CASE("attention: chunks of any size and decode steps give the bits of the whole prompt") {
  const SimtDevice device;
  for (const HeadShape& heads : {HeadShape{2, 1, 64}, HeadShape{1, 1, 80}, HeadShape{1, 1, 256}})
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      // The widest head costs most: with it, only what is of its own.
      if (heads.head_dim == 256 && q == DType::bf16) return;
      const int32_t length = 261;
      AttentionCase c(heads, kind, q, {{length, length}}, 7);
      const std::vector<float> whole = run(c, device);
      for (const int64_t size : {1, 13, 100}) {
        INFO("chunks of ", size);
        // As it happens in a run: pages are written chunk by chunk, what is not yet written is NaN. Decode steps follow
        // one chunk.
        AttentionCase fresh = c;
        fresh.cache = Cache(c.cache.shape, c.cache.num_blocks);
        const Tensor o(q, c.o.count);
        for (int64_t first = 0, count = size == 1 ? 251 : size; first < length; first += count, count = size) {
          count = std::min<int64_t>(count, length - first);
          write_pages(fresh.cache, fresh.half, fresh.contents, first, first + count);
          run_chunk(device, fresh, first, count, o);
        }
        CHECK(bit_difference(o.floats(), whole) == "");
      }
    });
}

TEST_CASE("attention: a sequence's bits do not depend on its neighbours nor on where its blocks lie") {
  const SimtDevice device;
  const std::vector<Sequence> sequences{{270, 9}, {31, 1}, {64, 64}, {300, 1}, {5, 5}};
  for (const HeadShape& heads : {HeadShape{6, 3, 48}, HeadShape{6, 3, 32}})
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      const int64_t width = int64_t{heads.num_heads} * heads.head_dim;
      AttentionCase together(heads, kind, q, sequences, 8);
      const std::vector<float> all = run(together, device), queries = together.q.floats();
      for (size_t b = 0; b < sequences.size(); ++b) {
        AttentionCase alone(heads, kind, q, {sequences[b]}, 100 + b);
        const auto slice = [&](const std::vector<float>& v) {
          return std::vector<float>(v.begin() + together.half.query_start[b] * width,
                                    v.begin() + together.half.query_start[b + 1] * width);
        };
        alone.contents = {{together.contents.k[b]}, {together.contents.v[b]}};
        write_pages(alone.cache, alone.half, alone.contents);
        alone.q = Tensor(q, slice(queries));
        CHECK(bit_difference(run(alone, device), slice(all)) == "");
      }
    });
}

TEST_CASE("attention never lets a later token of the same step into an earlier row") {
  const SimtDevice device;
  for (const HeadShape& heads : {HeadShape{4, 2, 64}, HeadShape{2, 1, 256}, HeadShape{2, 1, 24}})
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      AttentionCase c(heads, kind, q, {{40, 40}}, 9);
      const std::vector<float> clean = run(c, device);
      // Position 20 onwards turns to NaN, or its values alone to infinity: rows 0..19 must not notice, the others must.
      for (const float bad : {NAN, INFINITY}) {
        INFO("turned to ", bad);
        Contents poisoned = c.contents;
        const size_t width = static_cast<size_t>(heads.num_kv_heads * heads.head_dim);
        for (size_t i = 20 * width; i < poisoned.v[0].size(); ++i) {
          poisoned.v[0][i] = bad;
          if (std::isnan(bad)) poisoned.k[0][i] = bad;
        }
        write_pages(c.cache, c.half, poisoned);
        const std::vector<float> dirty = run(c, device);
        const auto edge = static_cast<size_t>(20 * heads.num_heads * heads.head_dim);
        CHECK(bit_difference(dirty.data(), clean.data(), edge * 4, 4) == "");
        size_t finite = 0;
        for (size_t i = edge; i < dirty.size(); ++i) finite += std::isfinite(dirty[i]);
        // A scale from a checkpoint makes infinity the largest code.
        CHECK((finite == 0) == !(std::isinf(bad) && kind.scales == KvScales::per_head));
      }
    });
}

TEST_CASE("attention survives scores far apart: one key takes all, and splits merge without overflow") {
  const SimtDevice device;
  for (const int32_t head_dim : {16, 32})
    for (const CacheKind& kind : {kCacheKinds[0], kCacheKinds[1]})
      for (const int32_t winner : {3, 255, 256, 511, 520}) {
        INFO("hd ", head_dim, " cache ", std::string(kind.name), " winner ", winner);
        AttentionCase c({1, 1, head_dim}, kind, DType::f32, {{521, 1}}, 10);
        const auto width = static_cast<size_t>(head_dim);
        c.q = Tensor(DType::f32, std::vector<float>(width, 100.0f));
        for (float& x : c.contents.k[0]) x = -100.0f;
        for (size_t i = 0; i < width; ++i) c.contents.k[0][static_cast<size_t>(winner) * width + i] = 100.0f;
        c.contents.v[0] = Tensor(kind.dtype == DType::f32 ? DType::f32 : DType::bf16, c.contents.v[0]).floats();
        write_pages(c.cache, c.half, c.contents);
        const auto begin = c.contents.v[0].begin() + winner * head_dim;
        CHECK(bit_difference(run(c, device), std::vector<float>(begin, begin + head_dim)) == "");
      }
}

TEST_CASE("attention with no rows touches nothing") {
  AttentionCase c({2, 1, 32}, kCacheKinds[1], DType::bf16, {{20, 0}, {7, 0}}, 11);
  CHECK(run(c, SimtDevice()).empty());
}

TEST_CASE("attention of a padded row, whose table is empty, follows no entry of it") {
  for (const HeadShape& heads : {HeadShape{2, 1, 32}, HeadShape{2, 1, 16}})
    for_each_type(heads, [&](const CacheKind& kind, DType q) {
      AttentionCase c(heads, kind, q, {{20, 1}, {3, 1}}, 12);
      const std::vector<float> before = run(c, SimtDevice());
      c.half.positions[1] = -1;
      std::fill(c.half.block_tables.begin(), c.half.block_tables.begin() + c.half.table_stride, -1);
      const std::vector<float> padded = run(c, SimtDevice());
      CHECK(bit_difference(padded.data(), before.data(), before.size() / 2 * 4, 4) == "");
    });
}

// Each kernel and way of merging, on as few keys as go through every stage twice and through two splits.
template <class F>
void for_each_kernel(F&& f) {
  for (const size_t kind : {size_t{1}, size_t{2}}) {
    const auto check = [&](const HeadShape& heads, const std::vector<Sequence>& sequences, int num_sms) {
      const std::string what = text(heads, kCacheKinds[kind], DType::f32);
      INFO(what, " first context ", sequences[0].context_len, " multiprocessors ", num_sms);
      AttentionCase c(heads, kCacheKinds[kind], DType::f32, sequences, 13);
      f(c, SimtDevice(chip_of(num_sms)));
    };
    check({2, 1, 32}, {{330, 1}}, 1);        // decode, splits merged in the block
    check({2, 1, 32}, {{330, 1}}, 1 << 20);  // decode, splits apart
    check({2, 1, 256}, {{330, 1}}, 1);       // decode, widths in two parts
    check({2, 1, 32}, {{330, 40}}, 1);       // prefill
    check({2, 1, 256}, {{330, 20}}, 1);
    check({2, 1, 16}, {{330, 2}}, 1);  // general
  }
}

TEST_CASE("attention has the same bits under every schedule") {
  for_each_kernel([](AttentionCase& c, const SimtDevice& device) {
    const std::vector<float> expected = run(c, device);
    for_each_schedule([&] { CHECK(bit_difference(run(c, device), expected) == ""); });
  });
}

TEST_CASE("attention keeps its threads in order [race]") {
  const simt::ScopedSchedule scoped({simt::Order::random, simt::Landing::random, 3});
  for_each_kernel([](AttentionCase& c, const SimtDevice& device) { check_exact(c, device); });
}

}  // namespace
}  // namespace swiftkv::test
