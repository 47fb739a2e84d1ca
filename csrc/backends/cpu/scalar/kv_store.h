// Writes one head of one token to a page: conversion to the cache's dtype and, for fp8, its scale.
#pragma once

#include <algorithm>
#include <cmath>

#include "backends/cpu/cache_layout.h"
#include "core/dtype.h"
#include "core/ops.h"

namespace swiftkv::cpu::scalar {

enum class KvPart { k, v };

inline float max_abs(const float* x, int64_t count) {
  float m = 0.0f;
  for (int64_t i = 0; i < count; ++i) m = std::max(m, std::fabs(x[i]));  // NaN never wins; its own code is NaN
  return m;
}

// x [hd] goes to `slot` (>= 0); keys come here already rotated.
inline void store_head(const KvCache& cache, int64_t slot, int64_t head, KvPart part, const float* x) {
  const HeadBlock block = head_block(cache, slot / kBlockTokens, head);
  const int64_t offset = slot % kBlockTokens, hd = cache.head_dim;
  std::byte* row = (part == KvPart::k ? block.k : block.v) + offset * hd * dtype_bytes(cache.dtype);
  if (cache.dtype == DType::f32) {
    std::copy(x, x + hd, reinterpret_cast<float*>(row));
  } else if (cache.dtype == DType::bf16) {
    auto* out = reinterpret_cast<bf16*>(row);
    for (int64_t i = 0; i < hd; ++i) out[i] = to_bf16(x[i]);
  } else {
    if (cache.scales == KvScales::dynamic)
      (part == KvPart::k ? block.k_scale : block.v_scale)[offset] = fp8_scale(max_abs(x, hd));
    const float scale =
        part == KvPart::k ? stored_k_scale(cache, block, head, offset) : stored_v_scale(cache, block, head, offset);
    auto* out = reinterpret_cast<fp8_e4m3*>(row);
    for (int64_t i = 0; i < hd; ++i) out[i] = to_fp8_e4m3(x[i] / scale);
  }
}

}  // namespace swiftkv::cpu::scalar
