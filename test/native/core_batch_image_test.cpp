// Which parts of a batch a device gets and gives back, and programs on a backend whose memory is not the host's.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/batch_image.h"
#include "core_fake_backend.h"

namespace swiftkv::test {
namespace {

constexpr BatchCapacity kCapacity = {.max_rows = 4096,
                                     .max_seqs = 8,
                                     .max_logit_rows = 16,
                                     .max_blocks_per_seq = 100,
                                     .num_layers = 3,
                                     .vocab_size = 100,
                                     .max_top_logprobs = 5,
                                     .max_copies = 8};

std::vector<BatchRange> ranges_of(const Batch& batch, std::initializer_list<BatchField> fields, bool results,
                                  int64_t gap = 0) {
  FieldSet set;
  for (BatchField f : fields) set.add(f);
  std::vector<int32_t> reach(kCapacity.max_seqs);
  std::vector<BatchRange> ranges;
  live_ranges(batch, BatchLayout(kCapacity), set, results, gap, reach, ranges);
  CHECK(ranges.size() <= max_ranges(kCapacity));
  return ranges;
}

void set_count(Batch& batch, Axis axis, int32_t count) {
  batch.data(BatchField::counts)[static_cast<int>(axis)] = count;
}

TEST_CASE("a field is live as far as its axis counts, plus its constant") {
  const auto batch = Batch::create(kCapacity);
  const BatchLayout layout(kCapacity);
  set_count(*batch, Axis::T, 7);
  set_count(*batch, Axis::BT, 2);
  const auto r = ranges_of(*batch, {BatchField::ids, BatchField::query_start_t, BatchField::survivors}, false);
  REQUIRE(r.size() == 2);  // S is 0
  CHECK(r[0].begin == layout.offset(BatchField::ids));
  CHECK(r[0].end == r[0].begin + 7);
  CHECK(r[1].begin == layout.offset(BatchField::query_start_t));
  CHECK(r[1].end == r[1].begin + 3);
}

TEST_CASE("results are the other half, and never part of an upload") {
  const auto batch = Batch::create(kCapacity);
  const BatchLayout layout(kCapacity);
  set_count(*batch, Axis::R, 3);
  set_count(*batch, Axis::P, 2);
  const auto fields = {BatchField::logit_rows, BatchField::sampled_ids, BatchField::top_ids};
  const auto up = ranges_of(*batch, fields, false);
  REQUIRE(up.size() == 1);
  CHECK(up[0].begin == layout.offset(BatchField::logit_rows));
  const auto down = ranges_of(*batch, fields, true);
  REQUIRE(down.size() == 2);
  CHECK(down[0].begin == layout.offset(BatchField::sampled_ids));
  CHECK(down[0].end == down[0].begin + 3);
  CHECK(down[1].end == layout.offset(BatchField::top_ids) + 2 * 5);
}

TEST_CASE("of block tables, what the contexts of the rows in use reach; of masks, the rows in use") {
  const auto batch = Batch::create(kCapacity);
  const BatchLayout layout(kCapacity);
  set_count(*batch, Axis::BT, 2);
  set_count(*batch, Axis::R, 2);
  int32_t* rows = batch->data(BatchField::table_row_t);
  int32_t* contexts = batch->data(BatchField::context_len_t);
  rows[0] = 5, contexts[0] = 33;  // 3 blocks
  rows[1] = 2, contexts[1] = 16;  // 1 block
  const auto tables = ranges_of(*batch, {BatchField::block_tables, BatchField::table_row_t}, false);
  REQUIRE(tables.size() == 3);  // table_row_t itself comes first
  const int64_t at = layout.offset(BatchField::block_tables);
  CHECK(tables[1].begin == at + 200);
  CHECK(tables[1].end == at + 201);
  CHECK(tables[2].begin == at + 500);
  CHECK(tables[2].end == at + 503);

  int32_t* masks = batch->data(BatchField::mask_rows);
  masks[0] = masks[1] = -1;
  CHECK(ranges_of(*batch, {BatchField::masks, BatchField::mask_rows}, false).size() == 1);
  masks[1] = 1;
  const auto with = ranges_of(*batch, {BatchField::masks, BatchField::mask_rows}, false);
  CHECK(with.back().end == layout.offset(BatchField::masks) + 2 * 4);
}

TEST_CASE("ranges that lie close are one") {
  const auto batch = Batch::create(kCapacity);
  set_count(*batch, Axis::T, 4096);
  set_count(*batch, Axis::BT, 1);
  const auto fields = {BatchField::ids, BatchField::positions_t, BatchField::slots_t, BatchField::query_start_t};
  CHECK(ranges_of(*batch, fields, false, 0).size() == 4);
  CHECK(ranges_of(*batch, fields, false, 16).size() == 1);
  set_count(*batch, Axis::T, 4000);
  CHECK(ranges_of(*batch, fields, false, 16).size() == 4);
  CHECK(ranges_of(*batch, fields, false, 4096).size() == 1);
}

}  // namespace
}  // namespace swiftkv::test
