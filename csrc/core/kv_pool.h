// Paged memory of every distinct KV cache: one allocation, touched at construction.
//
// Cache after cache; in a cache, block after block; a block is described at KvCache. Nothing is padded, so the bytes
// per token are 2 * sum(Hk * hd * element bytes), plus 2 * sum(Hk) * 4 with dynamic scales.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.h"

namespace swiftkv {

struct CacheSpec {
  int32_t num_kv_heads, head_dim;
  DType dtype;  // f32, bf16: scales none; fp8_e4m3: dynamic or per_head
  KvScales scales;
  std::vector<float> k_scale, v_scale;  // [num_kv_heads] with per_head, else empty
};

class KvPool {
 public:
  // Throws Error when a spec is not acceptable, the size overflows, or memory is short.
  static std::shared_ptr<KvPool> create(const std::shared_ptr<OpenDevice>& device, int64_t num_blocks,
                                        const std::vector<CacheSpec>& specs);

  int32_t num_blocks() const { return num_blocks_; }
  int32_t num_caches() const { return static_cast<int32_t>(caches_.size()); }
  // Bytes of one block of 16 tokens over all caches, scales included.
  int64_t block_bytes() const { return block_bytes_; }
  // Paged bytes; num_blocks * block_bytes.
  int64_t byte_length() const { return block_bytes_ * num_blocks_; }
  const std::shared_ptr<OpenDevice>& device() const { return storage_->device(); }

  // Throws Error: invalid_argument for an index out of range, disposed after the device was closed.
  const KvCache& cache(int32_t index) const;

 private:
  KvPool() = default;

  std::shared_ptr<Storage> storage_;
  std::shared_ptr<Storage> scales_;  // static scales of all caches, null when there are none
  std::vector<KvCache> caches_;
  int32_t num_blocks_ = 0;
  int64_t block_bytes_ = 0;
};

// One cache of a pool, kept alive.
struct CacheRef {
  std::shared_ptr<KvPool> pool;
  int32_t index;
};

}  // namespace swiftkv
