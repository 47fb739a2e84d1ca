// Sampler slots in device memory.
#include "core/sampler_table.h"

#include <cmath>
#include <string>
#include <vector>

namespace swiftkv {

std::shared_ptr<SamplerTable> SamplerTable::create(const std::shared_ptr<OpenDevice>& device, int32_t capacity) {
  constexpr int32_t kMaxSlots = 1 << 20;
  if (capacity < 1 || capacity > kMaxSlots) {
    throw Error(Code::invalid_argument, "Expected 1 to " + std::to_string(kMaxSlots) +
                                            " for the capacity of a sampler table but received " +
                                            std::to_string(capacity));
  }
  std::shared_ptr<SamplerTable> table(new SamplerTable());
  table->capacity_ = capacity;
  table->storage_ = device->allocate(static_cast<size_t>(capacity) * sizeof(SamplerSlot));
  const SamplerSlot greedy = {
      .temperature = 0, .top_p = 1, .min_p = 0, .top_k = 0, .seed = 0, .choice = 0, .reserved = 0};
  const std::vector<SamplerSlot> slots(static_cast<size_t>(capacity), greedy);
  check(device->table().upload(device->handle(), table->storage_->data(), slots.data(),
                               slots.size() * sizeof(SamplerSlot)));
  return table;
}

void SamplerTable::set(int32_t slot, const SamplerSlot& state) {
  device()->require_open();
  if (slot < 0 || slot >= capacity_) {
    throw Error(Code::invalid_argument,
                "Expected a sampler slot below " + std::to_string(capacity_) + " but received " + std::to_string(slot));
  }
  if (!std::isfinite(state.temperature) || state.temperature < 0 || !std::isfinite(state.top_p) ||
      !std::isfinite(state.min_p) || state.top_k < 0) {
    throw Error(Code::invalid_argument,
                "Expected finite temperature >= 0, topP, minP and topK >= 0 for sampler slot " + std::to_string(slot));
  }
  std::byte* dst = storage_->data() + static_cast<size_t>(slot) * sizeof(SamplerSlot);
  check(device()->table().upload(device()->handle(), dst, &state, sizeof state));
}

SamplersView SamplerTable::view() const {
  device()->require_open();
  return {reinterpret_cast<const SamplerSlot*>(storage_->data()), capacity_};
}

}  // namespace swiftkv
