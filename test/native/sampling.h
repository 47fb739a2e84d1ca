// Sequences as `sample` sees them: their samplers in a table, a step's rows, and a plain reference of the answer.
#pragma once

#include <cstdint>
#include <vector>

#include "core/sampler_table.h"
#include "level_device.h"

namespace swiftkv::test {

// Vocabularies: one token, the edges of a mask's word, more than one block of the draw.
inline const std::vector<int64_t> kVocabularies{1, 31, 32, 33, 1000, 4097};

// Greedy, nothing adjusted.
SamplerSlot greedy_state();

struct SampledSequence {
  SamplerSlot state = greedy_state();
  std::vector<int32_t> bias_ids = {};
  std::vector<float> biases = {};
  std::vector<int32_t> end_ids = {};
  std::vector<int32_t> prompt = {};
  std::vector<int32_t> outputs = {};

  SamplerLists lists() const { return {bias_ids, biases, end_ids, prompt, outputs}; }
};

// A table on a device that has memory alone: kernels of any level read it. Sequence i is in slot i.
std::shared_ptr<SamplerTable> table_of(int64_t vocab, const std::vector<SampledSequence>& sequences);

// The rows of one step.
struct SampleRows {
  explicit SampleRows(int64_t tokens) : vocab(tokens) {}

  int64_t vocab;
  std::vector<float> logits = {};
  std::vector<int32_t> slots = {}, positions = {};
  std::vector<int32_t> forced = {}, mask_rows = {};
  std::vector<uint32_t> masks = {};  // rows of words(); none at all: no bitmask

  int64_t words() const { return (vocab + 31) / 32; }
  size_t count() const { return slots.size(); }
  void add(const std::vector<float>& row, int32_t slot, int64_t position, int32_t forced_id = -1, int32_t mask = -1);
  // All rows in one call.
  std::vector<int32_t> run(const LevelDevice& device, const SamplerTable& table) const;
  std::vector<int32_t> run(const LevelDevice& device, const SamplerTable& table, int64_t first, int64_t rows) const;
  // By the reference; reads the histories, leaves them as they are.
  std::vector<int32_t> expected(const std::vector<SampledSequence>& sequences) const;
};

// One row that is drawn at the sequence's next position, with its table made for it.
int32_t next_id(const LevelDevice& device, const std::vector<float>& row, const SampledSequence& sequence);

// The row after bias, ending ids and penalties. Each operation is done in double and rounded to f32, which is what f32
// arithmetic gives: a double holds more than twice the digits. A finite logit ends at the largest float, not beyond.
std::vector<float> adjusted_reference(const std::vector<float>& row, const SampledSequence& sequence, int64_t position);

// By sorting, then sums in double. `mask` may be null; `forced` -1: drawn.
int32_t sample_reference(const std::vector<float>& row, const SampledSequence& sequence, int64_t position,
                         const uint32_t* mask, int32_t forced);

// What a slot has counted against the sequence's history; empty if they agree or no penalty needs counts.
std::string counts_difference(const SamplerTable& table, int32_t slot, const SampledSequence& sequence);

}  // namespace swiftkv::test
