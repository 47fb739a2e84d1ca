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

// Element i of the row at `offset`, without its scale.
SWIFTKV_DEVICE float kv_element(const KvHead& h, DType dtype, int head_dim, int offset, int i) {
  const int at = offset * head_dim + i;
  switch (dtype) {
    case DType::f32: return reinterpret_cast<const float*>(h.rows)[at];
    case DType::bf16: return load_f32(reinterpret_cast<const bf16*>(h.rows)[at]);
    default: return load_f32(reinterpret_cast<const fp8_e4m3*>(h.rows)[at]);
  }
}

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
  constexpr int kVector = 16 / static_cast<int>(sizeof(T)), kPerWord = kVector / 4;
  if (count % kVector != 0) {
    for (int i = lane; i < count; i += kHeadLanes) out[i] = store_as<T>(x(i));
    return;
  }
  for (int first = lane * kVector; first < count; first += kHeadLanes * kVector) {
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const int i = first + w * kPerWord;
      if constexpr (std::is_same_v<T, float>)
        words[w] = __float_as_uint(x(i));
      else if constexpr (std::is_same_v<T, fp8_e4m3>)
        words[w] = pack_e4m3(x(i), x(i + 1)) | pack_e4m3(x(i + 2), x(i + 3)) << 16;
      else
        words[w] = ptx::pack_bf16x2(x(i), x(i + 1));
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
    for (int i = lane; i < count; i += kHeadLanes)
      most = fmaxf(most, fabsf(x(i)));  // NaN never wins; its own code is NaN
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
  store_head(reinterpret_cast<fp8_e4m3*>(h.rows) + offset * hd, hd, lane, [&](int i) { return x(i) / scale; });
}

}  // namespace swiftkv::cuda
