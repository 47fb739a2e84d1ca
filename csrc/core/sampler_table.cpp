// Sampler slots in device memory.
#include "core/sampler_table.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

namespace swiftkv {
namespace {

constexpr SamplerSlot kGreedy = {.temperature = 0, .top_p = 1, .min_p = 0, .top_k = 0, .seed = 0, .choice = 0};

int32_t checked(int32_t value, int32_t limit, const char* what) {
  if (value >= 1 && value <= limit) return value;
  throw Error(Code::invalid_argument, "Expected 1 to " + std::to_string(limit) + " for the " + what +
                                          " of a sampler table but received " + std::to_string(value));
}

bool penalises(const SamplerSlot& s) {
  return s.repetition_penalty != 1.0f || s.presence_penalty != 0.0f || s.frequency_penalty != 0.0f;
}

}  // namespace

std::shared_ptr<SamplerTable> SamplerTable::create(const std::shared_ptr<OpenDevice>& device, int32_t capacity,
                                                   int32_t vocab) {
  std::shared_ptr<SamplerTable> table(new SamplerTable());
  table->capacity_ = checked(capacity, 1 << 20, "capacity");
  table->vocab_ = checked(vocab, 1 << 24, "vocabulary");
  table->storage_ = device->allocate(static_cast<size_t>(capacity) * sizeof(SamplerSlot), MemoryPart::samplers);
  table->rooms_.resize(static_cast<size_t>(capacity));
  const std::vector<SamplerSlot> slots(static_cast<size_t>(capacity), kGreedy);
  table->upload(table->storage_->data(), slots.data(), slots.size() * sizeof(SamplerSlot));
  return table;
}

void SamplerTable::set(int32_t slot, const SamplerSlot& given, const SamplerLists& lists) {
  device()->require_open();
  if (slot < 0 || slot >= capacity_) {
    throw Error(Code::invalid_argument,
                "Expected a sampler slot below " + std::to_string(capacity_) + " but received " + std::to_string(slot));
  }
  check_values(slot, given, lists);
  SamplerSlot state = given;
  state.bias_ids = state.end_ids = nullptr;
  state.biases = nullptr;
  state.counts = nullptr;
  state.seen = nullptr;
  Room& room = rooms_[static_cast<size_t>(slot)];
  write_slot(slot, kGreedy);  // nothing refers to the slot's memory while it changes
  put_lists(room, state, lists);
  if (penalises(state)) put_counts(room, state, lists);
  write_slot(slot, state);
}

void SamplerTable::check_values(int32_t slot, const SamplerSlot& s, const SamplerLists& lists) const {
  const auto refuse = [&](const char* expected) {
    throw Error(Code::invalid_argument,
                std::string("Expected ") + expected + " for sampler slot " + std::to_string(slot));
  };
  if (!std::isfinite(s.temperature) || s.temperature < 0 || !std::isfinite(s.top_p) || !std::isfinite(s.min_p) ||
      s.top_k < 0) {
    refuse("finite temperature >= 0, topP, minP and topK >= 0");
  }
  if (!std::isfinite(s.repetition_penalty) || s.repetition_penalty <= 0 || !std::isfinite(s.presence_penalty) ||
      !std::isfinite(s.frequency_penalty) || s.min_tokens < 0) {
    refuse("finite repetitionPenalty > 0, presencePenalty, frequencyPenalty and minTokens >= 0");
  }
  if (lists.bias_ids.size() != lists.biases.size()) refuse("as many biases as biasIds");
  for (const float bias : lists.biases) {
    if (std::isnan(bias) || bias == INFINITY) refuse("biases that are finite or -Infinity");
  }
  check_ids("biasIds", lists.bias_ids);
  check_ids("endIds", lists.end_ids);
  check_ids("promptIds", lists.prompt_ids);
  check_ids("outputIds", lists.output_ids);
}

void SamplerTable::check_ids(const char* name, std::span<const int32_t> ids) const {
  const auto wrong = std::find_if(ids.begin(), ids.end(), [&](int32_t id) { return id < 0 || id >= vocab_; });
  if (wrong == ids.end()) return;
  throw Error(Code::invalid_argument, "Expected token ids below " + std::to_string(vocab_) + " for " + name +
                                          " but received " + std::to_string(*wrong));
}

void SamplerTable::put_lists(Room& room, SamplerSlot& state, const SamplerLists& lists) {
  state.num_end_ids = static_cast<int32_t>(lists.end_ids.size());
  state.num_biases = static_cast<int32_t>(lists.bias_ids.size());
  const size_t bytes = lists.end_ids.size_bytes() + lists.bias_ids.size_bytes() + lists.biases.size_bytes();
  if (bytes == 0) return;
  if (room.lists == nullptr || room.lists->bytes() < bytes) {
    room.lists = device()->allocate(std::bit_ceil(std::max<size_t>(bytes, 256)), MemoryPart::samplers);
  }
  std::byte* at = room.lists->data();
  const auto put = [&](auto list) {
    upload(at, list.data(), list.size_bytes());
    const auto* copy = reinterpret_cast<decltype(list.data())>(at);
    at += list.size_bytes();
    return copy;
  };
  state.end_ids = put(lists.end_ids);
  state.bias_ids = put(lists.bias_ids);
  state.biases = put(lists.biases);
}

void SamplerTable::put_counts(Room& room, SamplerSlot& state, const SamplerLists& lists) {
  const auto vocab = static_cast<size_t>(vocab_);
  if (room.counts == nullptr) room.counts = device()->allocate((2 * vocab + 1) * sizeof(int32_t), MemoryPart::samplers);
  counts_.resize(vocab);
  seen_.assign(1, 0);
  // The room for all that can come is made here, before a count is written that an exception would leave behind.
  seen_.reserve(1 + std::min(vocab, lists.prompt_ids.size() + lists.output_ids.size()));
  struct Clear {
    SamplerTable& table;
    ~Clear() {
      for (size_t i = 1; i < table.seen_.size(); ++i) table.counts_[static_cast<size_t>(table.seen_[i])] = 0;
    }
  } clear{*this};
  const auto meet = [&](int32_t id) -> uint32_t& {
    uint32_t& count = counts_[static_cast<size_t>(id)];
    if (count == 0) seen_.push_back(id);
    return count;
  };
  for (const int32_t id : lists.prompt_ids) meet(id) |= kInPrompt;
  for (const int32_t id : lists.output_ids) ++meet(id);
  seen_[0] = static_cast<int32_t>(seen_.size()) - 1;

  state.counts = reinterpret_cast<uint32_t*>(room.counts->data());
  state.seen = reinterpret_cast<int32_t*>(state.counts + vocab);
  upload(state.counts, counts_.data(), vocab * sizeof(uint32_t));
  upload(state.seen, seen_.data(), seen_.size() * sizeof(int32_t));
}

void SamplerTable::write_slot(int32_t slot, const SamplerSlot& state) {
  upload(storage_->data() + static_cast<size_t>(slot) * sizeof(SamplerSlot), &state, sizeof state);
}

void SamplerTable::upload(void* dst, const void* src, size_t bytes) {
  if (bytes > 0) check(device()->table().upload(device()->handle(), dst, src, bytes));
}

SamplersView SamplerTable::view() const {
  device()->require_open();
  return {reinterpret_cast<const SamplerSlot*>(storage_->data()), capacity_, vocab_};
}

}  // namespace swiftkv
