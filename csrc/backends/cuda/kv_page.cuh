// Rows of a paged cache in device code. A block is, per KV head: K[16][hd], V[16][hd], then for dynamic scales
// k_scale[16], v_scale[16] (KvCache in core/ops.h). A head of one token is written by kHeadLanes neighbouring lanes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "backends/cuda/convert.h"
#include "backends/cuda/warp.h"
#include "core/ops.h"

namespace swiftkv::cuda {

enum class KvPart : int { k, v };

// Lanes that work on one head of one token: a warp has four heads, and 8 lanes of 16 bytes are a line.
inline constexpr int kHeadLanes = 8;

// K or V of one head in one block.
struct KvHead {
  std::byte* rows;       // [16][hd] in the cache's dtype
  float* dynamic_scale;  // [16] stored in the block; null with other scales
  float fixed_scale;     // the head's, from a checkpoint; 1 without
};

SWIFTKV_DEVICE KvHead kv_head(const KvCache& cache, int64_t block, int head, KvPart part) {
  const int64_t part_bytes = int64_t{kBlockTokens} * cache.head_dim * dtype_bytes(cache.dtype);
  std::byte* base = cache.data + block * cache.block_bytes + head * cache.head_bytes;
  const bool v = part == KvPart::v;
  KvHead h{base + (v ? part_bytes : 0), nullptr, 1.0f};
  if (cache.scales == KvScales::dynamic)
    h.dynamic_scale = reinterpret_cast<float*>(base + 2 * part_bytes) + (v ? kBlockTokens : 0);
  else if (cache.scales == KvScales::per_head)
    h.fixed_scale = (v ? cache.v_scale : cache.k_scale)[head];
  return h;
}

// The scale of what is stored at `offset` of the block: value = decode(code) * scale.
SWIFTKV_DEVICE float kv_scale(const KvHead& h, int offset) {
  return h.dynamic_scale != nullptr ? h.dynamic_scale[offset] : h.fixed_scale;
}

SWIFTKV_DEVICE float4 load_four(const float* p) {
  return *reinterpret_cast<const float4*>(p);
}
SWIFTKV_DEVICE float4 load_four(const bf16* p) {
  const uint2 v = *reinterpret_cast<const uint2*>(p);
  return make_float4(bf16_low(v.x), bf16_high(v.x), bf16_low(v.y), bf16_high(v.y));
}
SWIFTKV_DEVICE float4 load_four(const fp8_e4m3* p) {
  const uint32_t v = *reinterpret_cast<const uint32_t*>(p);
  const auto at = [v](int shift) { return load_f32(fp8_e4m3{static_cast<uint8_t>(v >> shift)}); };
  return make_float4(at(0), at(8), at(16), at(24));
}

// The values of one head in memory, for store_head and write_kv: one by one, and by fours where the width is a multiple
// of four. T: float or a cache's dtype.
template <class T>
struct StoredHead {
  const T* row;
  __device__ float operator()(int i) const { return load_f32(row[i]); }
  __device__ float4 four(int i) const { return load_four(row + i); }
};

template <class X>
inline constexpr bool kHasFours = requires(const X& x) { x.four(0); };

// x(i) .. x(i + 3), i a multiple of four: at once where X can.
template <class X>
SWIFTKV_DEVICE float4 four_of(const X& x, int i) {
  if constexpr (kHasFours<X>)
    return x.four(i);
  else
    return make_float4(x(i), x(i + 1), x(i + 2), x(i + 3));
}

// X after f, element by element.
template <class X, class F>
struct MappedHead {
  const X& x;
  F f;
  __device__ float operator()(int i) const { return f(x(i)); }
  __device__ float4 four(int i) const {
    const float4 v = four_of(x, i);
    return make_float4(f(v.x), f(v.y), f(v.z), f(v.w));
  }
};
template <class X, class F>
MappedHead(const X&, F) -> MappedHead<X, F>;

// Over the kHeadLanes lanes of a head; every lane of the warp comes here, and the lanes of a head get the same bits.
SWIFTKV_DEVICE float head_max(float x) {
#pragma unroll
  for (int offset = kHeadLanes / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
  return x;
}
SWIFTKV_DEVICE float head_sum(float x) {
#pragma unroll
  for (int offset = kHeadLanes / 2; offset > 0; offset /= 2) x = __fadd_rn(x, __shfl_xor_sync(kAllLanes, x, offset));
  return x;
}

// out[i] = x(i) for i < count, by the lanes 0..kHeadLanes - 1 of a head: in 16-byte stores where rows are whole numbers
// of them. `out` is then 16-byte aligned, as every row of a tensor or page is.
template <class T, class X>
SWIFTKV_DEVICE void store_head(T* out, int count, int lane, const X& x) {
  constexpr int kVector = 16 / static_cast<int>(sizeof(T));
  if (count % kVector != 0) {
    for (int i = lane; i < count; i += kHeadLanes) out[i] = store_as<T>(x(i));
    return;
  }
  for (int first = lane * kVector; first < count; first += kHeadLanes * kVector) {
    uint32_t words[4];
#pragma unroll
    for (int f = 0; f < kVector / 4; ++f) {
      const float4 v = four_of(x, first + 4 * f);
      if constexpr (std::is_same_v<T, float>) {
        words[0] = __float_as_uint(v.x), words[1] = __float_as_uint(v.y);
        words[2] = __float_as_uint(v.z), words[3] = __float_as_uint(v.w);
      } else if constexpr (std::is_same_v<T, fp8_e4m3>) {
        words[f] = pack_e4m3(v.x, v.y) | pack_e4m3(v.z, v.w) << 16;
      } else {
        words[2 * f] = ptx::pack_bf16x2(v.x, v.y), words[2 * f + 1] = ptx::pack_bf16x2(v.z, v.w);
      }
    }
    *reinterpret_cast<uint4*>(out + first) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

// Writes x(0..hd), keys already rotated, to `slot` = block * 16 + offset; nothing where it is negative, and then x is
// not evaluated. Every lane of the warp comes here, also those whose slot is negative; `lane` is the lane's number
// within its head. x(i) may be evaluated several times.
template <class X>
SWIFTKV_DEVICE void write_kv(const KvCache& cache, int slot, int head, KvPart part, int lane, const X& x) {
  const int hd = cache.head_dim, count = slot < 0 ? 0 : hd;
  float most = 0.0f;
  if (cache.scales == KvScales::dynamic) {
    const auto take = [&most](float value) { most = fmaxf(most, fabsf(value)); };  // NaN never wins; its code is NaN
    if (kHasFours<X> && count % 4 == 0) {
      for (int i = 4 * lane; i < count; i += 4 * kHeadLanes) {
        const float4 v = four_of(x, i);
        take(v.x), take(v.y), take(v.z), take(v.w);
      }
    } else {
      for (int i = lane; i < count; i += kHeadLanes) take(x(i));
    }
    most = head_max(most);
  }
  if (slot < 0) return;
  const KvHead h = kv_head(cache, slot / kBlockTokens, head, part);
  const int offset = slot % kBlockTokens;
  switch (cache.dtype) {
    case DType::f32: store_head(reinterpret_cast<float*>(h.rows) + offset * hd, hd, lane, x); return;
    case DType::bf16: store_head(reinterpret_cast<bf16*>(h.rows) + offset * hd, hd, lane, x); return;
    default: break;
  }
  float scale = h.fixed_scale;
  if (h.dynamic_scale != nullptr) {
    scale = fp8_scale(most);
    if (lane == 0) h.dynamic_scale[offset] = scale;
  }
  store_head(reinterpret_cast<fp8_e4m3*>(h.rows) + offset * hd, hd, lane,
             MappedHead(x, [scale](float value) { return value / scale; }));
}

}  // namespace swiftkv::cuda
