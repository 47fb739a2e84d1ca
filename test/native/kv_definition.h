// The layout of pages, written straight from its definition, for the tests of every backend.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "fixtures.h"

namespace swiftkv::test {

// The bytes that the layout of KvCache promises, written straight from its definition.
inline void store_by_definition(Cache& cache, int32_t slot, const float* k, const float* v) {
  const CacheShape& s = cache.shape;
  const int64_t hd = s.head_dim, element = dtype_bytes(s.dtype), part = 16 * hd * element;
  const int64_t head_bytes = 2 * part + (s.scales == KvScales::dynamic ? 128 : 0);
  for (int64_t head = 0; head < s.num_kv_heads; ++head)
    for (int which = 0; which < 2; ++which) {
      std::byte* base = cache.memory.data() + (slot / 16 * int64_t{s.num_kv_heads} + head) * head_bytes;
      const float* x = (which == 0 ? k : v) + head * hd;
      float scale = 1.0f;
      if (s.scales == KvScales::dynamic) {
        float max = 0.0f;
        for (int64_t i = 0; i < hd; ++i) max = std::fmax(max, std::fabs(x[i]));
        scale = max / 448.0f > 0.0f ? max / 448.0f : 1.0f;
        std::memcpy(base + 2 * part + which * 64 + slot % 16 * 4, &scale, 4);
      } else if (s.scales == KvScales::per_head) {
        scale = (which == 0 ? cache.k_scale : cache.v_scale)[static_cast<size_t>(head)];
      }
      for (int64_t i = 0; i < hd; ++i) {
        std::byte* to = base + which * part + (slot % 16 * hd + i) * element;
        const bf16 rounded = to_bf16(x[i]);
        const fp8_e4m3 code = to_fp8_e4m3(x[i] / scale);
        if (s.dtype == DType::f32) std::memcpy(to, &x[i], 4);
        if (s.dtype == DType::bf16) std::memcpy(to, &rounded, 2);
        if (s.dtype == DType::fp8_e4m3) std::memcpy(to, &code, 1);
      }
    }
}

// Block edges, one that writes nothing, not in order.
inline const std::vector<int32_t> kSlots{0, 15, 16, 47, -1, 33, 31};

}  // namespace swiftkv::test
