// Bytes that native code holds, counted where they are allocated and by what they are for.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

namespace swiftkv {

enum class MemoryPart : int { weights, kv_pool, rope_table, workspace, samplers, batches, tensors, scratch, count };
inline constexpr int kMemoryPartCount = static_cast<int>(MemoryPart::count);

// As in lib/native/binding.ts.
inline constexpr std::array<std::string_view, kMemoryPartCount> kMemoryPartNames = {
    "weights", "kvPool", "ropeTable", "workspace", "samplers", "batches", "tensors", "scratch"};

// Counters of one device, or of an environment: what a part counts, the whole counts too. For any thread.
class MemoryUse {
 public:
  explicit MemoryUse(std::shared_ptr<MemoryUse> whole = nullptr) : whole_(std::move(whole)) {}
  MemoryUse(const MemoryUse&) = delete;
  MemoryUse& operator=(const MemoryUse&) = delete;

  void add(MemoryPart part, size_t bytes) noexcept {
    for (MemoryUse* use = this; use != nullptr; use = use->whole_.get()) use->at(part).fetch_add(bytes, kOrder);
  }
  void remove(MemoryPart part, size_t bytes) noexcept {
    for (MemoryUse* use = this; use != nullptr; use = use->whole_.get()) use->at(part).fetch_sub(bytes, kOrder);
  }

  size_t bytes(MemoryPart part) const noexcept { return bytes_[static_cast<size_t>(part)].load(kOrder); }
  size_t total() const noexcept {
    size_t sum = 0;
    for (const auto& bytes : bytes_) sum += bytes.load(kOrder);
    return sum;
  }

 private:
  static constexpr std::memory_order kOrder = std::memory_order_relaxed;
  std::atomic<size_t>& at(MemoryPart part) noexcept { return bytes_[static_cast<size_t>(part)]; }

  std::array<std::atomic<size_t>, kMemoryPartCount> bytes_ = {};
  std::shared_ptr<MemoryUse> whole_;
};

}  // namespace swiftkv
