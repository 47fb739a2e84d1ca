// The samplers of running sequences, in device memory, indexed by slot.
#pragma once

#include <cstdint>
#include <memory>

#include "core/device.h"
#include "core/operands.h"

namespace swiftkv {

class SamplerTable {
 public:
  // All slots greedy. Throws Error.
  static std::shared_ptr<SamplerTable> create(const std::shared_ptr<OpenDevice>& device, int32_t capacity);

  int32_t capacity() const { return capacity_; }
  const std::shared_ptr<OpenDevice>& device() const { return storage_->device(); }

  // Only while no step reads the slot. Throws Error for a slot out of range or a value that is not finite.
  void set(int32_t slot, const SamplerSlot& state);

  // Throws Error(disposed) after the device was closed.
  SamplersView view() const;

 private:
  SamplerTable() = default;

  std::shared_ptr<Storage> storage_;
  int32_t capacity_ = 0;
};

}  // namespace swiftkv
