// The integer arrays of one step, in one allocation that JavaScript fills and the executor reads in place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "core/index_role.h"
#include "core/memory_use.h"
#include "core/operands.h"
#include "core/ops.h"
#include "core/status.h"

namespace swiftkv {

struct BatchCapacity {
  int32_t max_rows, max_seqs, max_logit_rows, max_blocks_per_seq, num_layers;
  int32_t vocab_size;        // bits of a mask
  int32_t max_top_logprobs;  // at most vocab_size
  int32_t max_copies;        // block copies

  friend bool operator==(const BatchCapacity&, const BatchCapacity&) = default;
};

enum class BatchField : int32_t {
  ids,
  positions_t,
  slots_t,
  query_start_t,
  context_len_t,
  table_row_t,
  survivors,
  positions_s,
  query_start_s,
  context_len_s,
  table_row_s,
  logit_rows,
  sampler_slots,
  output_positions,
  block_tables,
  forced_ids,
  mask_rows,
  masks,
  logprob_rows,
  copy_sources,
  copy_destinations,
  // Written by the step:
  sampled_ids,
  chosen_logprobs,
  ranks,
  top_ids,
  top_logprobs,
  // Not tensors of a program:
  layer_rows,
  row_layers,
  counts,
  count
};
inline constexpr int kBatchFieldCount = static_cast<int>(BatchField::count);

// All of 32 bits. Programs see u32 as i32.
enum class FieldType : int32_t { i32, u32, f32 };

struct BatchFieldInfo {
  std::string_view name;  // as in lib/native/binding.ts
  Axis axis;              // none: fixed size
  int32_t plus;
  IndexRole role;  // what the numbers mean; `none` for those that no kernel follows
  FieldType type = FieldType::i32;
};

const BatchFieldInfo& batch_field_info(BatchField field);
// A field that programs may name as a tensor, by its name in binding.ts.
std::optional<BatchField> find_batch_field(std::string_view name);

// A field of results: a program may write it.
constexpr bool step_writes(BatchField field) {
  return field >= BatchField::sampled_ids && field <= BatchField::top_logprobs;
}

// What the numbers of a batch may be, and which fields anybody reads. A program derives it from its ops.
struct BatchLimits {
  static constexpr int64_t kNone = int64_t{1} << 31;  // any i32

  int64_t vocab = kNone;       // ids, forced ids
  int64_t positions = kNone;   // rows of the RoPE table
  int64_t num_blocks = kNone;  // of the KV pool
  int64_t sampler_slots = kNone;
  int64_t masks = kNone;
  uint64_t used = 0;  // bit (1 << field): only these are checked

  bool uses(BatchField f) const { return (used >> static_cast<int>(f)) & 1; }
  void use(BatchField f) { used |= uint64_t{1} << static_cast<int>(f); }
};

// Capacity of a row axis.
int64_t axis_capacity(Axis axis, const BatchCapacity& capacity);

// Throws Error(invalid_argument) for a capacity out of range.
void check_capacity(const BatchCapacity& capacity);

// Where the fields of a batch lie, in 32-bit elements from its start; fields begin at multiples of 16 (64 bytes).
struct BatchLayout {
  explicit BatchLayout(const BatchCapacity& capacity);

  int64_t offset(BatchField f) const { return offsets[static_cast<size_t>(f)]; }
  int64_t length(BatchField f) const { return lengths[static_cast<size_t>(f)]; }

  std::array<int64_t, kBatchFieldCount> offsets = {};
  std::array<int64_t, kBatchFieldCount> lengths = {};  // at capacity
  int64_t total = 0;
};

class OpenDevice;

class Batch {
 public:
  // Zero-filled, counted in `memory` if given. With a device whose memory is not the host's, in host memory that it can
  // copy from by itself; the batch then keeps the device's handle. Throws Error: invalid_argument for a capacity out of
  // range, out_of_memory.
  static std::shared_ptr<Batch> create(const BatchCapacity& capacity, std::shared_ptr<MemoryUse> memory = nullptr,
                                       std::shared_ptr<OpenDevice> device = nullptr);
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  const BatchCapacity& capacity() const { return capacity_; }
  // Number of 32-bit elements of a field, at capacity.
  int64_t length(BatchField field) const { return layout_.length(field); }
  int32_t* data(BatchField field) const { return base_ + layout_.offset(field); }
  int32_t count(Axis axis) const { return data(BatchField::counts)[static_cast<int>(axis)]; }
  // [max_copies] for the checks of a step; JavaScript does not see it.
  int32_t* check_space() const { return base_ + layout_.total; }
  // One half's description; T or S.
  RowsView half(Axis rows) const;

  // The shape a program sees: axes with their capacities; block_tables is [max_seqs, max_blocks_per_seq], masks is
  // [max_logit_rows, ceil(vocab_size / 32)], top_ids and top_logprobs are [P, max_top_logprobs].
  static TensorView view(BatchField field, const BatchCapacity& capacity);

 private:
  explicit Batch(const BatchCapacity& capacity) : capacity_(capacity), layout_(capacity) {}

  BatchCapacity capacity_;
  BatchLayout layout_;
  std::shared_ptr<MemoryUse> memory_;
  std::shared_ptr<OpenDevice> device_;  // whose host memory this is, or null
  int32_t* base_ = nullptr;
  size_t bytes_ = 0;
};

// Everything a kernel would follow blindly. A failure is a defect of the scheduler: Code::internal. Allocates nothing;
// time is linear in the rows and blocks of the step, and n log n in its copies.
Status validate(const Batch& batch, const BatchLimits& limits);

}  // namespace swiftkv
