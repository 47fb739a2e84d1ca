// Where the rows of a paged cache lie. A block is, per KV head: K[16][hd], V[16][hd], then for dynamic scales
// k_scale[16], v_scale[16]. Internal linkage: files of several ISA levels include this.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/ops.h"

namespace swiftkv::cpu {

// Pointers into one KV head of one block.
struct HeadBlock {
  std::byte* k;    // [16][hd] in the cache's dtype
  std::byte* v;    // [16][hd]
  float* k_scale;  // [16] with dynamic scales, otherwise null
  float* v_scale;  // [16]
};

static inline HeadBlock head_block(const KvCache& cache, int64_t block, int64_t head) {
  const int64_t part = kBlockTokens * cache.head_dim * dtype_bytes(cache.dtype);
  std::byte* k = cache.data + block * cache.block_bytes + head * cache.head_bytes;
  HeadBlock b{k, k + part, nullptr, nullptr};
  if (cache.scales == KvScales::dynamic) {
    b.k_scale = reinterpret_cast<float*>(k + 2 * part);
    b.v_scale = b.k_scale + kBlockTokens;
  }
  return b;
}

// The scale of what is stored at `offset` of a block: value = decode(code) * scale.
static inline float stored_k_scale(const KvCache& cache, const HeadBlock& b, int64_t head, int64_t offset) {
  if (b.k_scale != nullptr) return b.k_scale[offset];
  return cache.scales == KvScales::per_head ? cache.k_scale[head] : 1.0f;
}

static inline float stored_v_scale(const KvCache& cache, const HeadBlock& b, int64_t head, int64_t offset) {
  if (b.v_scale != nullptr) return b.v_scale[offset];
  return cache.scales == KvScales::per_head ? cache.v_scale[head] : 1.0f;
}

}  // namespace swiftkv::cpu
