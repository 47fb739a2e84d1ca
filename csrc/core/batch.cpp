// The batch's field table, its layout, and the checks of every step.
#include "core/batch.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string>

#include "core/device.h"
#include "core/index_checks.h"

namespace swiftkv {
namespace {

constexpr std::align_val_t kAlign{64};
constexpr int64_t kAlignInts = 16;
constexpr int64_t kMaxInts = int64_t{1} << 30;

// In the order of BatchField.
constexpr std::array<BatchFieldInfo, kBatchFieldCount> kFields = {{
    {"ids", Axis::T, 0, IndexRole::token},
    {"positionsT", Axis::T, 0, IndexRole::position},
    {"slotsT", Axis::T, 0, IndexRole::slot},
    {"queryStartT", Axis::BT, 1, IndexRole::query_start},
    {"contextLenT", Axis::BT, 0, IndexRole::context_len},
    {"tableRowT", Axis::BT, 0, IndexRole::table_row},
    {"survivors", Axis::S, 0, IndexRole::survivor},
    {"positionsS", Axis::S, 0, IndexRole::position},
    {"queryStartS", Axis::BS, 1, IndexRole::query_start},
    {"contextLenS", Axis::BS, 0, IndexRole::context_len},
    {"tableRowS", Axis::BS, 0, IndexRole::table_row},
    {"logitRows", Axis::R, 0, IndexRole::logit_row},
    {"samplerSlots", Axis::R, 0, IndexRole::sampler_slot},
    {"outputPositions", Axis::R, 0, IndexRole::output_position},
    {"blockTables", Axis::none, 0, IndexRole::block_table},
    {"forcedIds", Axis::R, 0, IndexRole::forced_token},
    {"maskRows", Axis::R, 0, IndexRole::mask_row},
    {"masks", Axis::none, 0, IndexRole::none, FieldType::u32},
    {"logprobRows", Axis::P, 0, IndexRole::logprob_row},
    {"copySources", Axis::C, 0, IndexRole::block},
    {"copyDestinations", Axis::C, 0, IndexRole::block},
    {"sampledIds", Axis::R, 0, IndexRole::none},
    {"chosenLogprobs", Axis::P, 0, IndexRole::none, FieldType::f32},
    {"ranks", Axis::P, 0, IndexRole::none},
    {"topIds", Axis::P, 0, IndexRole::none},
    {"topLogprobs", Axis::P, 0, IndexRole::none, FieldType::f32},
    {"layerRows", Axis::none, 0, IndexRole::none},
    {"rowLayers", Axis::none, 0, IndexRole::none},
    {"counts", Axis::none, 0, IndexRole::none},
}};

int64_t mask_words(const BatchCapacity& c) {
  return (int64_t{c.vocab_size} + 31) / 32;
}

// Columns of a field of rank 2; 0 for the others.
int64_t field_columns(BatchField field, const BatchCapacity& c) {
  switch (field) {
    case BatchField::block_tables: return c.max_blocks_per_seq;
    case BatchField::masks: return mask_words(c);
    case BatchField::top_ids:
    case BatchField::top_logprobs: return c.max_top_logprobs;
    default: return 0;
  }
}

int64_t field_length(BatchField field, const BatchCapacity& c) {
  switch (field) {
    case BatchField::block_tables: return int64_t{c.max_seqs} * c.max_blocks_per_seq;
    case BatchField::masks: return c.max_logit_rows * mask_words(c);
    case BatchField::top_ids:
    case BatchField::top_logprobs: return int64_t{c.max_logit_rows} * c.max_top_logprobs;
    case BatchField::layer_rows: return c.num_layers;
    case BatchField::row_layers: return c.max_seqs;
    case BatchField::counts: return kAxisCount;
    default: {
      const BatchFieldInfo& info = batch_field_info(field);
      return axis_capacity(info.axis, c) + info.plus;
    }
  }
}

void check_capacity(int32_t value, const char* name, int32_t limit) {
  if (value >= 1 && value <= limit) return;
  throw Error(Code::invalid_argument,
              "Expected 1 to " + std::to_string(limit) + " for " + name + " but received " + std::to_string(value));
}

void check_product(int64_t elements, const char* what) {
  if (elements > kMaxInts) throw Error(Code::invalid_argument, std::string("Expected at most 2^30 ") + what);
}

const char* field_name(BatchField field) {
  return batch_field_info(field).name.data();  // string literals
}

Status check_counts(const Batch& batch) {
  for (int i = 0; i < kAxisCount; ++i) {
    const Axis axis = static_cast<Axis>(i);
    const int64_t capacity = axis_capacity(axis, batch.capacity());
    const int32_t count = batch.count(axis);
    if (count < 0 || count > capacity) {
      return fail(Code::internal, "batch: count of %s is %d, expected 0 to %lld", axis_name(axis), count,
                  static_cast<long long>(capacity));
    }
  }
  return {};
}

Status check_field(const Batch& batch, const BatchLimits& limits, BatchField field, int64_t low, int64_t high) {
  if (!limits.uses(field)) return {};
  const BatchFieldInfo& info = batch_field_info(field);
  return check_range(Code::internal, field_name(field), batch.data(field), batch.count(info.axis), low, high);
}

Status check_sequences(const Batch& batch, const BatchLimits& limits, Axis rows) {
  const bool all = rows == Axis::T;
  const char* what = all ? "half T" : "half S";
  const RowsView half = batch.half(rows);
  if (limits.uses(all ? BatchField::query_start_t : BatchField::query_start_s)) {
    const Status s = check_starts(Code::internal, what, half, batch.capacity().max_seqs);
    if (!s.ok()) return s;
  }
  if (limits.uses(all ? BatchField::context_len_t : BatchField::context_len_s)) {
    return check_contexts(Code::internal, what, half, limits.num_blocks);
  }
  return {};
}

}  // namespace

const BatchFieldInfo& batch_field_info(BatchField field) {
  return kFields[static_cast<size_t>(field)];
}

std::optional<BatchField> find_batch_field(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(BatchField::top_logprobs); ++i) {
    const BatchField field = static_cast<BatchField>(i);
    if (batch_field_info(field).name == name) return field;
  }
  return std::nullopt;
}

int64_t axis_capacity(Axis axis, const BatchCapacity& c) {
  switch (axis) {
    case Axis::T:
    case Axis::S: return c.max_rows;
    case Axis::R:
    case Axis::P: return c.max_logit_rows;
    case Axis::BT:
    case Axis::BS: return c.max_seqs;
    case Axis::C: return c.max_copies;
    case Axis::none: break;
  }
  return 0;
}

void check_capacity(const BatchCapacity& c) {
  check_capacity(c.max_rows, "maxRows", 1 << 20);
  check_capacity(c.max_seqs, "maxSeqs", 1 << 16);
  check_capacity(c.max_logit_rows, "maxLogitRows", 1 << 20);
  check_capacity(c.max_blocks_per_seq, "maxBlocksPerSeq", 1 << 26);
  check_capacity(c.num_layers, "numLayers", 1 << 16);
  check_capacity(c.vocab_size, "vocabSize", 1 << 24);
  check_capacity(c.max_top_logprobs, "maxTopLogprobs", c.vocab_size);
  check_capacity(c.max_copies, "maxCopies", 1 << 16);
  check_product(int64_t{c.max_seqs} * c.max_blocks_per_seq, "block table entries for maxSeqs * maxBlocksPerSeq");
  check_product(c.max_logit_rows * mask_words(c), "words of masks for maxLogitRows * vocabSize / 32");
  check_product(int64_t{c.max_logit_rows} * c.max_top_logprobs, "top tokens for maxLogitRows * maxTopLogprobs");
}

BatchLayout::BatchLayout(const BatchCapacity& capacity) {
  check_capacity(capacity);
  for (size_t i = 0; i < kBatchFieldCount; ++i) {
    offsets[i] = total;
    lengths[i] = field_length(static_cast<BatchField>(i), capacity);
    total += (lengths[i] + kAlignInts - 1) / kAlignInts * kAlignInts;
  }
}

std::shared_ptr<Batch> Batch::create(const BatchCapacity& capacity, std::shared_ptr<MemoryUse> memory,
                                     std::shared_ptr<OpenDevice> device) {
  std::shared_ptr<Batch> batch(new Batch(capacity));
  // The space for checks lies behind the fields.
  const size_t bytes = static_cast<size_t>(batch->layout_.total + capacity.max_copies) * sizeof(int32_t);
  if (device != nullptr && !device->host_memory()) {
    batch->base_ = static_cast<int32_t*>(device->allocate_host(bytes));
    batch->device_ = std::move(device);
  } else {
    batch->base_ = static_cast<int32_t*>(::operator new(bytes, kAlign, std::nothrow));
    if (batch->base_ == nullptr) {
      throw Error(Code::out_of_memory, "a batch of " + std::to_string(bytes) + " bytes could not be allocated");
    }
    std::memset(batch->base_, 0, bytes);
  }
  batch->bytes_ = bytes;
  batch->memory_ = std::move(memory);
  if (batch->memory_ != nullptr) batch->memory_->add(MemoryPart::batches, bytes);
  return batch;
}

Batch::~Batch() {
  if (memory_ != nullptr) memory_->remove(MemoryPart::batches, bytes_);
  if (device_ != nullptr) {
    device_->release_host(base_, bytes_);
  } else {
    ::operator delete(base_, kAlign);
  }
}

RowsView Batch::half(Axis rows) const {
  const bool all = rows == Axis::T;
  return {.rows = count(rows),
          .num_seqs = count(all ? Axis::BT : Axis::BS),
          .positions = data(all ? BatchField::positions_t : BatchField::positions_s),
          .query_start = data(all ? BatchField::query_start_t : BatchField::query_start_s),
          .context_len = data(all ? BatchField::context_len_t : BatchField::context_len_s),
          .table_row = data(all ? BatchField::table_row_t : BatchField::table_row_s),
          .block_tables = data(BatchField::block_tables),
          .table_stride = capacity_.max_blocks_per_seq};
}

TensorView Batch::view(BatchField field, const BatchCapacity& c) {
  const BatchFieldInfo& info = batch_field_info(field);
  const int64_t length = field_length(field, c);
  const int64_t columns = field_columns(field, c);
  TensorView v;
  v.dtype = info.type == FieldType::f32 ? DType::f32 : DType::i32;
  v.rank = columns > 0 ? 2 : 1;
  v.shape[0] = {.size = columns > 0 ? length / columns : length, .axis = info.axis, .plus = info.plus};
  v.shape[1].size = columns;
  return v;
}

Status validate(const Batch& batch, const BatchLimits& limits) {
  if (Status s = check_counts(batch); !s.ok()) return s;
  const int64_t slots = limits.num_blocks * kBlockTokens;
  const struct {
    BatchField field;
    int64_t low, high;
  } ranges[] = {
      {BatchField::ids, 0, limits.vocab},
      {BatchField::positions_t, 0, limits.positions},
      {BatchField::slots_t, -1, slots},
      {BatchField::survivors, 0, batch.count(Axis::T)},
      {BatchField::positions_s, 0, limits.positions},
      {BatchField::logit_rows, 0, batch.count(Axis::S)},
      {BatchField::sampler_slots, 0, limits.sampler_slots},
      {BatchField::output_positions, 0, BatchLimits::kNone},
      {BatchField::forced_ids, -1, limits.vocab},
      {BatchField::mask_rows, -1, limits.masks},
      {BatchField::logprob_rows, 0, batch.count(Axis::R)},
      {BatchField::copy_sources, 0, limits.num_blocks},
      {BatchField::copy_destinations, 0, limits.num_blocks},
  };
  for (const auto& r : ranges) {
    if (Status s = check_field(batch, limits, r.field, r.low, r.high); !s.ok()) return s;
  }
  for (Axis axis : {Axis::T, Axis::S}) {
    if (Status s = check_sequences(batch, limits, axis); !s.ok()) return s;
  }
  if (!limits.uses(BatchField::copy_destinations)) return {};
  return check_copies(Code::internal, "batch", batch.data(BatchField::copy_sources),
                      batch.data(BatchField::copy_destinations), batch.count(Axis::C), batch.check_space());
}

}  // namespace swiftkv
