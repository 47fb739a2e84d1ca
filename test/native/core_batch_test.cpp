// The batch: its layout, and every way in which a scheduler could send a kernel astray.
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core_operands.h"

using namespace swiftkv;
using F = BatchField;

namespace {

constexpr BatchCapacity kCapacity = {.max_rows = 8,
                                     .max_seqs = 3,
                                     .max_logit_rows = 2,
                                     .max_blocks_per_seq = 4,
                                     .num_layers = 5,
                                     .vocab_size = 70,
                                     .max_top_logprobs = 3,
                                     .max_copies = 2};

void set(Batch& batch, BatchField field, const std::vector<int32_t>& values) {
  REQUIRE(static_cast<int64_t>(values.size()) <= batch.length(field));
  std::copy(values.begin(), values.end(), batch.data(field));
}

// Table row 2 finishes a prompt of 18 tokens with rows 0..3, table row 0 decodes at position 5 with row 4.
std::shared_ptr<Batch> good() {
  auto b = Batch::create(kCapacity);
  set(*b, F::counts, {5, 2, 2, 2, 2, 1, 2});
  set(*b, F::ids, {1, 2, 3, 4, 9});
  set(*b, F::positions_t, {14, 15, 16, 17, 5});
  set(*b, F::slots_t, {46, 47, 0, 1, -1});
  set(*b, F::query_start_t, {0, 4, 5});
  set(*b, F::context_len_t, {18, 6});
  set(*b, F::table_row_t, {2, 0});
  set(*b, F::survivors, {3, 4});
  set(*b, F::positions_s, {17, 5});
  set(*b, F::query_start_s, {0, 1, 2});
  set(*b, F::context_len_s, {18, 6});
  set(*b, F::table_row_s, {2, 0});
  set(*b, F::logit_rows, {0, 1});
  set(*b, F::sampler_slots, {2, 0});
  set(*b, F::output_positions, {0, 7});
  set(*b, F::forced_ids, {-1, 9});
  set(*b, F::mask_rows, {1, -1});
  set(*b, F::logprob_rows, {1});
  set(*b, F::copy_sources, {1, 1});
  set(*b, F::copy_destinations, {2, 0});
  set(*b, F::block_tables, {1, -1, -1, -1, -1, -1, -1, -1, 2, 0, -1, -1});
  return b;
}

BatchLimits limits() {
  BatchLimits l;
  l.vocab = 10;
  l.positions = 64;
  l.num_blocks = 3;
  l.sampler_slots = 3;
  l.masks = 2;
  l.used = (uint64_t{1} << kBatchFieldCount) - 1;
  return l;
}

// The complaint after one number was changed.
std::string after(BatchField field, int64_t at, int32_t value) {
  const auto b = good();
  b->data(field)[at] = value;
  const Status s = validate(*b, limits());
  CHECK((s.ok() || s.code == Code::internal));
  return s.message;
}

}  // namespace

TEST_CASE("batch: fields are apart, 64-byte aligned and as long as declared") {
  const auto b = Batch::create(kCapacity);
  CHECK(b->length(F::ids) == 8);
  CHECK(b->length(F::query_start_t) == 4);
  CHECK(b->length(F::block_tables) == 12);
  CHECK(b->length(F::logit_rows) == 2);
  CHECK(b->length(F::layer_rows) == 5);
  CHECK(b->length(F::row_layers) == 3);
  CHECK(b->length(F::counts) == 7);
  CHECK(b->length(F::copy_sources) == 2);
  CHECK(b->length(F::copy_destinations) == 2);
  CHECK(b->length(F::masks) == 2 * 3);
  CHECK(b->length(F::logprob_rows) == 2);
  CHECK(b->length(F::top_logprobs) == 2 * 3);
  for (int i = 0; i < kBatchFieldCount; ++i) {
    const auto field = static_cast<BatchField>(i);
    CHECK(reinterpret_cast<uintptr_t>(b->data(field)) % 64 == 0);
    for (int64_t k = 0; k < b->length(field); ++k) {
      REQUIRE(b->data(field)[k] == 0);
      b->data(field)[k] = i + 1;
    }
  }
  for (int i = 0; i < kBatchFieldCount; ++i) {
    const auto field = static_cast<BatchField>(i);
    for (int64_t k = 0; k < b->length(field); ++k) REQUIRE(b->data(field)[k] == i + 1);
    for (int64_t k = 0; k < kCapacity.max_copies; ++k) {
      const int32_t* space = b->check_space() + k;
      REQUIRE((space < b->data(field) || space >= b->data(field) + b->length(field)));
    }
  }
}

TEST_CASE("batch: names are those of the boundary, and counters are no tensors") {
  CHECK(find_batch_field("queryStartT") == F::query_start_t);
  CHECK(find_batch_field("sampledIds") == F::sampled_ids);
  CHECK_FALSE(find_batch_field("counts").has_value());
  CHECK_FALSE(find_batch_field("rowLayers").has_value());
  CHECK_FALSE(find_batch_field("").has_value());
  const TensorView starts = Batch::view(F::query_start_s, kCapacity);
  CHECK(starts.shape[0] == Extent{4, Axis::BS, 1});
  const TensorView tables = Batch::view(F::block_tables, kCapacity);
  CHECK(tables.rank == 2);
  CHECK(tables.shape[0] == Extent{3});
  CHECK(tables.shape[1] == Extent{4});
  const TensorView masks = Batch::view(F::masks, kCapacity);
  CHECK((masks.rank == 2 && masks.dtype == DType::i32));
  CHECK(masks.shape[0] == Extent{2});
  CHECK(masks.shape[1] == Extent{3});
  const TensorView top = Batch::view(F::top_logprobs, kCapacity);
  CHECK((top.rank == 2 && top.dtype == DType::f32));
  CHECK(top.shape[0] == Extent{2, Axis::P, 0});
  CHECK(top.shape[1] == Extent{3});
}

TEST_CASE("batch: capacities out of range are refused before anything is allocated") {
  for (int32_t BatchCapacity::* member :
       {&BatchCapacity::max_rows, &BatchCapacity::max_seqs, &BatchCapacity::max_logit_rows,
        &BatchCapacity::max_blocks_per_seq, &BatchCapacity::num_layers, &BatchCapacity::vocab_size,
        &BatchCapacity::max_top_logprobs, &BatchCapacity::max_copies}) {
    for (int32_t value : {0, -1, 2147483647}) {
      BatchCapacity c = kCapacity;
      c.*member = value;
      CHECK_THROWS_AS(Batch::create(c), Error);
    }
  }
  BatchCapacity c = kCapacity;
  c.max_seqs = 65536;
  c.max_blocks_per_seq = 65536;
  CHECK_THROWS_AS(Batch::create(c), Error);
  c = kCapacity;
  c.vocab_size = 1 << 24;
  c.max_logit_rows = 1 << 20;
  CHECK_THROWS_AS(Batch::create(c), Error);
  c = kCapacity;
  c.max_top_logprobs = 71;  // more than there are tokens
  CHECK_THROWS_AS(Batch::create(c), Error);
}

TEST_CASE("batch: a good batch passes, an empty one too") {
  CHECK(std::string(validate(*good(), limits()).message) == "");
  CHECK(validate(*Batch::create(kCapacity), limits()).ok());
}

TEST_CASE("batch: counts beyond the capacity would read past the arrays") {
  CHECK(after(F::counts, 0, 9) == "batch: count of T is 9, expected 0 to 8");
  CHECK(after(F::counts, 1, -1) == "batch: count of S is -1, expected 0 to 8");
  CHECK(after(F::counts, 2, 3) == "batch: count of R is 3, expected 0 to 2");
  CHECK(after(F::counts, 3, 4) == "batch: count of BT is 4, expected 0 to 3");
  CHECK(after(F::counts, 4, 2147483647) != "");
  CHECK(after(F::counts, 5, 3) == "batch: count of P is 3, expected 0 to 2");
  CHECK(after(F::counts, 6, 3) == "batch: count of C is 3, expected 0 to 2");
}

TEST_CASE("batch: every number a kernel follows is held within bounds") {
  CHECK(after(F::ids, 4, 10) == "ids[4] is 10, expected 0 to 9");
  CHECK(after(F::ids, 0, -1) != "");
  CHECK(after(F::positions_t, 0, 64) != "");
  CHECK(after(F::positions_t, 3, 18) != "");  // beyond its own context
  CHECK(after(F::slots_t, 1, 48) == "slotsT[1] is 48, expected -1 to 47");
  CHECK(after(F::slots_t, 1, -2) != "");
  CHECK(after(F::query_start_t, 0, 1) != "");
  CHECK(after(F::query_start_t, 1, 6) != "");
  CHECK(after(F::query_start_t, 2, 4) != "");
  CHECK(after(F::context_len_t, 0, 65) != "");
  CHECK(after(F::context_len_t, 0, 17) != "");  // shorter than its last position
  CHECK(after(F::table_row_t, 1, 3) == "half T: block table row of sequence 1 is 3, expected 0 to 2");
  CHECK(after(F::table_row_t, 1, -1) != "");
  CHECK(after(F::survivors, 1, 5) == "survivors[1] is 5, expected 0 to 4");
  CHECK(after(F::positions_s, 0, 18) != "");
  CHECK(after(F::query_start_s, 1, -1) != "");
  CHECK(after(F::context_len_s, 1, 5) != "");
  CHECK(after(F::table_row_s, 0, 100) != "");
  CHECK(after(F::logit_rows, 0, 2) == "logitRows[0] is 2, expected 0 to 1");
  CHECK(after(F::sampler_slots, 1, 3) != "");
  CHECK(after(F::output_positions, 0, -1) != "");
  CHECK(after(F::forced_ids, 0, 10) == "forcedIds[0] is 10, expected -1 to 9");
  CHECK(after(F::forced_ids, 1, -2) != "");
  CHECK(after(F::mask_rows, 0, 2) == "maskRows[0] is 2, expected -1 to 1");
  CHECK(after(F::mask_rows, 1, -2) != "");
  CHECK(after(F::logprob_rows, 0, 2) == "logprobRows[0] is 2, expected 0 to 1");
  CHECK(after(F::logprob_rows, 0, -1) != "");
  CHECK(after(F::copy_sources, 1, 3) == "copySources[1] is 3, expected 0 to 2");
  CHECK(after(F::copy_sources, 0, -1) != "");
  CHECK(after(F::copy_destinations, 0, 3) == "copyDestinations[0] is 3, expected 0 to 2");
  CHECK(after(F::copy_destinations, 1, -1) != "");
  CHECK(after(F::block_tables, 8, 3) == "half T: block 0 of sequence 0 (table row 2) is 3, expected 0 to 2");
  CHECK(after(F::block_tables, 9, -1) != "");
  CHECK(after(F::block_tables, 10, 1000) == "");  // beyond every context: nobody follows it
}

TEST_CASE("batch: copies that race for a block are refused, whatever their order") {
  CHECK(after(F::copy_destinations, 1, 2) == "batch: block 2 is written twice by copies");
  CHECK(after(F::copy_sources, 1, 0) == "batch: block 0 is both read and written by copies");
  CHECK(after(F::copy_sources, 0, 2) == "batch: block 2 is both read and written by copies");
  const auto b = good();
  b->data(F::counts)[static_cast<int>(Axis::C)] = 1;
  b->data(F::copy_destinations)[1] = 2;  // beyond the count
  CHECK(validate(*b, limits()).ok());
  const std::vector<int32_t> order(b->data(F::copy_destinations), b->data(F::copy_destinations) + 2);
  CHECK(order == std::vector<int32_t>{2, 2});  // the checks sort a copy
}

TEST_CASE("batch: numbers beyond the counts, and fields nobody reads, do not matter") {
  CHECK(after(F::ids, 5, -7) == "");
  CHECK(after(F::query_start_t, 3, -7) == "");
  CHECK(after(F::table_row_t, 2, -7) == "");
  const auto b = good();
  b->data(F::positions_s)[0] = -5;
  b->data(F::query_start_s)[0] = 5;
  BatchLimits l = limits();
  for (F field : {F::positions_s, F::query_start_s, F::context_len_s, F::table_row_s}) {
    l.used &= ~(uint64_t{1} << static_cast<int>(field));
  }
  CHECK(validate(*b, l).ok());
}
