// Checks cache specs and lays them out without padding.
#include "core/kv_pool.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace swiftkv {
namespace {

constexpr int32_t kMaxHeads = 1 << 16;
constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max() / kBlockTokens;  // slots are i32
constexpr int64_t kMaxBytes = int64_t{1} << 46;

std::string at(size_t index) {
  return "cache " + std::to_string(index) + ": ";
}

void check_scales(const std::vector<float>& scales, int32_t heads, bool wanted, const char* name, size_t index) {
  const size_t expected = wanted ? static_cast<size_t>(heads) : 0;
  if (scales.size() != expected) {
    throw Error(Code::invalid_argument, at(index) + "Expected " + std::to_string(expected) + " values for " + name +
                                            " but received " + std::to_string(scales.size()));
  }
  for (float s : scales) {
    if (!std::isfinite(s) || s <= 0) {
      throw Error(Code::invalid_argument, at(index) + "Expected positive, finite values for " + name);
    }
  }
}

void check_spec(const CacheSpec& spec, size_t index) {
  if (spec.num_kv_heads < 1 || spec.num_kv_heads > kMaxHeads) {
    throw Error(Code::invalid_argument,
                at(index) + "Expected 1 to 65536 for numKvHeads but received " + std::to_string(spec.num_kv_heads));
  }
  if (spec.head_dim < 2 || spec.head_dim > kMaxHeadDim || spec.head_dim % 2 != 0) {
    throw Error(Code::invalid_argument, at(index) + "Expected an even number up to " + std::to_string(kMaxHeadDim) +
                                            " for headDim but received " + std::to_string(spec.head_dim));
  }
  const bool plain = spec.dtype == DType::f32 || spec.dtype == DType::bf16;
  if (!plain && spec.dtype != DType::fp8_e4m3) {
    throw Error(Code::invalid_argument,
                at(index) + "Expected f32, bf16 or fp8_e4m3 for dtype but received " + dtype_name(spec.dtype));
  }
  if (plain != (spec.scales == KvScales::none)) {
    throw Error(Code::invalid_argument,
                at(index) + (plain ? "Expected none for scales of an f32 or bf16 cache"
                                   : "Expected dynamic or per_head for scales of an fp8 cache"));
  }
  check_scales(spec.k_scale, spec.num_kv_heads, spec.scales == KvScales::per_head, "kScale", index);
  check_scales(spec.v_scale, spec.num_kv_heads, spec.scales == KvScales::per_head, "vScale", index);
}

int64_t head_bytes(const CacheSpec& spec) {
  const int64_t values = int64_t{2} * kBlockTokens * spec.head_dim * dtype_bytes(spec.dtype);
  const int64_t scales = spec.scales == KvScales::dynamic ? int64_t{2} * kBlockTokens * 4 : 0;
  return values + scales;
}

}  // namespace

std::shared_ptr<KvPool> KvPool::create(const std::shared_ptr<OpenDevice>& device, int64_t num_blocks,
                                       const std::vector<CacheSpec>& specs) {
  if (num_blocks < 1 || num_blocks > kMaxBlocks) {
    throw Error(Code::invalid_argument, "Expected 1 to " + std::to_string(kMaxBlocks) + " for numBlocks but received " +
                                            std::to_string(num_blocks));
  }
  if (specs.empty()) throw Error(Code::invalid_argument, "Expected at least one cache for the KV pool");

  std::shared_ptr<KvPool> pool(new KvPool());
  int64_t static_scales = 0;  // floats
  for (size_t i = 0; i < specs.size(); ++i) {
    const CacheSpec& spec = specs[i];
    check_spec(spec, i);
    const int64_t head = head_bytes(spec);
    const int64_t block = head * spec.num_kv_heads;  // at most 2^16 * 2^17: no overflow
    pool->caches_.push_back({.data = nullptr,
                             .dtype = spec.dtype,
                             .scales = spec.scales,
                             .num_blocks = static_cast<int32_t>(num_blocks),
                             .num_kv_heads = spec.num_kv_heads,
                             .head_dim = spec.head_dim,
                             .head_bytes = head,
                             .block_bytes = block,
                             .k_scale = nullptr,
                             .v_scale = nullptr});
    pool->block_bytes_ += block;
    int64_t total = 0;
    if (__builtin_mul_overflow(pool->block_bytes_, num_blocks, &total) || total > kMaxBytes) {
      throw Error(Code::invalid_argument, "a KV pool of this size is larger than any machine's memory");
    }
    static_scales += static_cast<int64_t>(spec.k_scale.size() + spec.v_scale.size());
  }
  pool->num_blocks_ = static_cast<int32_t>(num_blocks);

  pool->storage_ = device->allocate(static_cast<size_t>(pool->byte_length()), MemoryPart::kv_pool);
  std::byte* data = pool->storage_->data();
  for (KvCache& cache : pool->caches_) {
    cache.data = data;
    data += cache.block_bytes * num_blocks;
  }

  if (static_scales > 0) {
    std::vector<float> values;
    values.reserve(static_cast<size_t>(static_scales));
    for (const CacheSpec& spec : specs) {
      values.insert(values.end(), spec.k_scale.begin(), spec.k_scale.end());
      values.insert(values.end(), spec.v_scale.begin(), spec.v_scale.end());
    }
    const size_t bytes = values.size() * sizeof(float);
    pool->scales_ = device->allocate(bytes, MemoryPart::kv_pool);
    check(device->table().upload(device->handle(), pool->scales_->data(), values.data(), bytes));
    const float* next = reinterpret_cast<const float*>(pool->scales_->data());
    for (KvCache& cache : pool->caches_) {
      if (cache.scales != KvScales::per_head) continue;
      cache.k_scale = next;
      cache.v_scale = next + cache.num_kv_heads;
      next += size_t{2} * cache.num_kv_heads;
    }
  }
  return pool;
}

const KvCache& KvPool::cache(int32_t index) const {
  device()->require_open();
  if (index < 0 || index >= num_caches()) {
    throw Error(Code::invalid_argument, "Expected a cache index below " + std::to_string(num_caches()) +
                                            " but received " + std::to_string(index));
  }
  return caches_[static_cast<size_t>(index)];
}

}  // namespace swiftkv
