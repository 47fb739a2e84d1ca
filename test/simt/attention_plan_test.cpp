// The choices of attention: every block that work needs exists, and everything fits the chip.
#include <doctest/doctest.h>

#include "backends/cuda/attention_plan.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

using namespace cuda;

AttentionProblem problem(int64_t rows, int32_t seqs, int32_t table_stride, int32_t heads, int32_t kv_heads,
                         int32_t head_dim, DType cache = DType::bf16, DType q = DType::f32) {
  return {rows, seqs, table_stride, heads, kv_heads, head_dim, cache, q};
}

TEST_CASE("attention's kernels: tensor cores for narrow caches of the usual widths") {
  for (const int64_t width : {32, 64, 96, 128, 256}) {
    CHECK(attention_kernel(DType::bf16, width) == AttentionKernel::tensor_cores);
    CHECK(attention_kernel(DType::fp8_e4m3, width) == AttentionKernel::tensor_cores);
    CHECK(attention_kernel(DType::f32, width) == AttentionKernel::general);
  }
  for (const int64_t width : {2, 16, 48, 80, 112, 160, 512})
    CHECK(attention_kernel(DType::bf16, width) == AttentionKernel::general);
}

TEST_CASE("attention's shared memory fits every chip, twice on the large ones where heads are not wide") {
  for (const int arch : {80, 89, 90, 100})
    for (const int32_t width : {32, 64, 96, 128, 256})
      for (const DType cache : {DType::bf16, DType::fp8_e4m3})
        for (const DType q : {DType::f32, DType::bf16}) {
          const DeviceLimits limits = limits_of(arch);
          const AttentionProblem p = problem(64, 8, 512, 32, 8, width, cache, q);
          CHECK(prefill_plan(p).shared_bytes <= limits.shared_bytes_block);
          CHECK(decode_plan(p, limits).shared_bytes <= limits.shared_bytes_block);
          // A block has 1 KiB beside what it asks for.
          if (arch != 89 && width <= 128) {
            CHECK(2 * (prefill_plan(p).shared_bytes + 1024) <= limits.shared_bytes_sm);
            CHECK(2 * (decode_plan(p, limits).shared_bytes + 1024) <= limits.shared_bytes_sm);
          }
        }
}

TEST_CASE("attention's prefill has a place for every tile of rows") {
  for (const int32_t group : {1, 3, 4, 8})
    for (const int32_t width : {64, 256})
      for (const int64_t seqs : {1, 2, 7})
        for (const int64_t rows : {1, 15, 16, 17, 63, 64, 65, 200}) {
          // Sequences of `rows` rows each: places of one begin where the kernel says, and the next begins behind them.
          const AttentionProblem p = problem(rows * seqs, static_cast<int32_t>(seqs), 64, 2 * group, 2, width);
          const int64_t tile = kTileRows * attention_prefill_tiles(width), needed = (rows * group + tile - 1) / tile;
          for (int64_t b = 0; b < seqs; ++b) {
            const int64_t begin = b * rows * group / tile + b;
            const int64_t next = b + 1 < seqs ? (b + 1) * rows * group / tile + b + 1 : prefill_plan(p).places;
            CHECK(begin + needed <= next);
          }
        }
}

TEST_CASE("attention's decode spreads splits where sequences are few, and only within the budget") {
  const DeviceLimits h100 = limits_of(90);
  const DecodePlan one = decode_plan(problem(1, 1, 8192, 32, 8, 128), h100);
  CHECK(one.splits_apart);
  CHECK(one.max_splits == 512);
  CHECK(one.split_blocks == 128);
  CHECK(one.tiles == 8);
  CHECK(one.scratch_bytes == size_t{512} * 32 * 130 * 4);
  const DecodePlan many = decode_plan(problem(256, 256, 8192, 32, 8, 128), h100);
  CHECK(!many.splits_apart);
  CHECK(many.split_blocks == 1);
  CHECK(many.scratch_bytes == 0);
  CHECK(many.tiles == 2048);
  // One split at most: nothing to spread.
  CHECK(!decode_plan(problem(1, 1, 16, 32, 8, 128), h100).splits_apart);
  CHECK(decode_plan(problem(1, 1, 17, 32, 8, 128), h100).splits_apart);
  // A group of more than 16 heads has more tiles.
  CHECK(decode_plan(problem(2, 2, 16, 34, 2, 128), h100).tiles == 2 * 2 * 2);
}

TEST_CASE("attention's scratch is enough for every smaller call") {
  for (const int arch : {80, 89, 90})
    for (const int32_t stride : {1, 17, 512, 8192})
      for (const int32_t heads : {2, 8, 64}) {
        const DeviceLimits limits = limits_of(arch);
        size_t before = 0;
        for (int32_t capacity = 0; capacity <= 600; capacity += 1 + capacity / 16) {
          const size_t bytes = attention_scratch_bytes(problem(capacity, capacity, stride, heads, 2, 128), limits);
          CHECK(bytes >= before);
          CHECK(bytes <= static_cast<size_t>(kSplitStateBudget));
          CHECK(bytes >= decode_plan(problem(capacity, capacity, stride, heads, 2, 128), limits).scratch_bytes);
          before = bytes;
        }
      }
  CHECK(attention_scratch_bytes(problem(8, 8, 512, 8, 2, 80), limits_of(80)) == 0);
  CHECK(attention_scratch_bytes(problem(8, 8, 512, 8, 2, 128, DType::f32), limits_of(80)) == 0);
}

}  // namespace
}  // namespace swiftkv::test
