// The samplers of running sequences, in device memory, indexed by slot.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/device.h"
#include "core/operands.h"

namespace swiftkv {

// What a sampler knows of tokens, all of them below the table's vocabulary.
struct SamplerLists {
  std::span<const int32_t> bias_ids;
  std::span<const float> biases;  // one per id; finite or -inf
  std::span<const int32_t> end_ids;
  // Counted where a penalty needs them.
  std::span<const int32_t> prompt_ids;
  std::span<const int32_t> output_ids;
};

class SamplerTable {
 public:
  // All slots greedy. Throws Error.
  static std::shared_ptr<SamplerTable> create(const std::shared_ptr<OpenDevice>& device, int32_t capacity,
                                              int32_t vocab);

  int32_t capacity() const { return capacity_; }
  int32_t vocab() const { return vocab_; }
  const std::shared_ptr<OpenDevice>& device() const { return storage_->device(); }

  // Replaces a slot, what it had counted included; the table makes the pointers of `state`. Only while no step reads
  // the slot. A slot takes 8 bytes a token of the vocabulary when a penalty first needs them, and room for its lists,
  // and keeps both for its next sequence. Throws Error for a slot, value or id out of range, or out_of_memory; the slot
  // is then as it was, or greedy.
  void set(int32_t slot, const SamplerSlot& state, const SamplerLists& lists = {});

  // Throws Error(disposed) after the device was closed.
  SamplersView view() const;

 private:
  // Memory of one slot; null until it is needed.
  struct Room {
    std::shared_ptr<Storage> lists;   // end ids, bias ids, biases
    std::shared_ptr<Storage> counts;  // counts [V], then seen [1 + V]
  };
  SamplerTable() = default;
  void check_values(int32_t slot, const SamplerSlot& state, const SamplerLists& lists) const;
  void check_ids(const char* name, std::span<const int32_t> ids) const;
  void write_slot(int32_t slot, const SamplerSlot& state);
  void put_lists(Room& room, SamplerSlot& state, const SamplerLists& lists);
  void put_counts(Room& room, SamplerSlot& state, const SamplerLists& lists);
  void upload(void* dst, const void* src, size_t bytes);

  std::shared_ptr<Storage> storage_;
  int32_t capacity_ = 0;
  int32_t vocab_ = 0;
  std::vector<Room> rooms_;
  // For counting, then uploaded; counts are 0 between calls.
  std::vector<uint32_t> counts_;
  std::vector<int32_t> seen_;
};

}  // namespace swiftkv
