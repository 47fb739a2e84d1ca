// Attention for every cache and even head width, with plain multiply-adds: a block takes one row and query head, a warp
// of it one split at a time, and the block merges them. Decode and prefill are the same.
#pragma once

#include "backends/cuda/attention_rows.cuh"
#include "backends/cuda/attention_state.cuh"

namespace swiftkv::cuda {

// Two neighbouring elements as f32.
SWIFTKV_DEVICE float2 load_pair(const float* x) {
  return *reinterpret_cast<const float2*>(x);
}
SWIFTKV_DEVICE float2 load_pair(const bf16* x) {
  const uint32_t pair = *reinterpret_cast<const uint32_t*>(x);
  return make_float2(bf16_low(pair), bf16_high(pair));
}
SWIFTKV_DEVICE float2 load_pair(const fp8_e4m3* x) {
  const uint32_t pair = *reinterpret_cast<const uint16_t*>(x);
  return make_float2(load_f32(fp8_e4m3{static_cast<uint8_t>(pair)}),
                     load_f32(fp8_e4m3{static_cast<uint8_t>(pair >> 8)}));
}

// kPairs: pairs of widths that a lane has, lane + 32 j.
template <class C, int kPairs>
__global__ void __launch_bounds__(kWarp* kGeneralWarps, 1) attention_general_kernel(AttentionParams p) {
  SWIFTKV_DYNAMIC_SHARED(float, shared);
  const int hd = p.cache.head_dim, thread = static_cast<int>(threadIdx.x);
  const int warp = warp_uniform(thread / kWarp), lane = thread % kWarp;
  float* const query = shared;             // [hd]
  float* const total_values = query + hd;  // [hd]
  float* const weights = total_values + hd + warp * kTileKeys;
  SoftmaxState* const total_state = reinterpret_cast<SoftmaxState*>(total_values + hd + kGeneralWarps * kTileKeys);

  const int64_t row = blockIdx.x / static_cast<unsigned>(p.num_heads);
  const int head = static_cast<int>(blockIdx.x % static_cast<unsigned>(p.num_heads));
  const int kv_head = head / (p.num_heads / p.cache.num_kv_heads);
  const int32_t sequence =
      last_at_most(row, p.half.num_seqs, [&](int32_t b) { return int64_t{p.half.query_start[b]}; });
  const int32_t count = p.half.query_start[sequence + 1] - p.half.query_start[sequence];
  if (!selected(p.select, count)) return;
  const int keys = warp_uniform(visible_keys(p.half, row));
  const int32_t* const blocks = block_table(p.half, sequence);
  const int64_t out = (row * p.num_heads + head) * hd;
  for (int i = thread; i < hd; i += kWarp * kGeneralWarps)
    query[i] = p.q.dtype == DType::f32 ? static_cast<const float*>(p.q.data)[out + i]
                                       : load_f32(static_cast<const bf16*>(p.q.data)[out + i]);
  __syncthreads();

  const float score_scale = __fmul_rn(p.scale, kLog2E);
  const int64_t part_bytes = int64_t{kBlockTokens} * hd * static_cast<int64_t>(sizeof(C));
  const bool dynamic = p.cache.scales == KvScales::dynamic;
  const float k_scale = p.cache.scales == KvScales::per_head ? p.cache.k_scale[kv_head] : 1.0f;
  const float v_scale = p.cache.scales == KvScales::per_head ? p.cache.v_scale[kv_head] : 1.0f;
  const int splits = (keys + kAttentionSplit - 1) / kAttentionSplit;
#pragma unroll 1
  for (int first = 0; first < splits; first += kGeneralWarps) {
    const int split = first + warp, begin = split * kAttentionSplit;
    const int end = begin + kAttentionSplit < keys ? begin + kAttentionSplit : keys;
    SoftmaxState state = empty_state();
    float2 values[kPairs];
#pragma unroll
    for (int j = 0; j < kPairs; ++j) values[j] = make_float2(0.0f, 0.0f);
#pragma unroll 1
    for (int tile = begin; tile < end; tile += kTileKeys) {
      const int key = tile + lane, here = end - tile < kTileKeys ? end - tile : kTileKeys;
      const int32_t id = key < end ? blocks[key / kBlockTokens] : -1;
      float score = -INFINITY, weight_scale = 1.0f;
      if (id >= 0) {
        const std::byte* page = p.cache.data + id * p.cache.block_bytes + kv_head * p.cache.head_bytes;
        const C* k = reinterpret_cast<const C*>(page) + int64_t{key % kBlockTokens} * hd;
        float dot = 0.0f;
        for (int i = 0; i < hd; i += 2) {
          const float2 x = load_pair(k + i);
          dot = fmaf(query[i], x.x, dot);
          dot = fmaf(query[i + 1], x.y, dot);
        }
        const float* scales = reinterpret_cast<const float*>(page + 2 * part_bytes) + key % kBlockTokens;
        score = __fmul_rn(dot, __fmul_rn(score_scale, dynamic ? scales[0] : k_scale));
        weight_scale = dynamic ? scales[kBlockTokens] : v_scale;
      }
      const float max = fmaxf(state.max, warp_max(score)), base = finite_base(max);
      const float keep = exp2f(state.max - base), weight = exp2f(score - base);
      state = {max, fmaf(state.sum, keep, warp_sum(weight))};
      __syncwarp();  // the last tile's weights have been read
      weights[lane] = __fmul_rn(weight, weight_scale);
      __syncwarp();
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        values[j].x *= keep;
        values[j].y *= keep;
      }
      // Only keys that the row sees: others may hold anything.
      for (int i = 0; i < here; ++i) {
        const int32_t block = blocks[(tile + i) / kBlockTokens];
        if (block < 0) continue;
        const std::byte* page = p.cache.data + block * p.cache.block_bytes + kv_head * p.cache.head_bytes + part_bytes;
        const C* v = reinterpret_cast<const C*>(page) + int64_t{(tile + i) % kBlockTokens} * hd;
#pragma unroll
        for (int j = 0; j < kPairs; ++j) {
          const int width = 2 * (lane + j * kWarp);
          if (width < hd) {
            const float2 x = load_pair(v + width);
            values[j].x = fmaf(weights[i], x.x, values[j].x);
            values[j].y = fmaf(weights[i], x.y, values[j].y);
          }
        }
      }
    }
#pragma unroll 1
    for (int turn = 0; turn < kGeneralWarps; ++turn) {
      if (turn == warp && split < splits) {
        SoftmaxState total = split == 0 ? empty_state() : *total_state;
        const MergeFactors factors = merge(total, state);
#pragma unroll
        for (int j = 0; j < kPairs; ++j) {
          const int width = 2 * (lane + j * kWarp);
          if (width < hd) {
            float2* const at = reinterpret_cast<float2*>(total_values + width);
            const float2 old = split == 0 ? make_float2(0.0f, 0.0f) : *at;
            *at = make_float2(merge_values(factors, old.x, values[j].x), merge_values(factors, old.y, values[j].y));
          }
        }
        __syncwarp();  // all lanes have read the state
        if (lane == 0) *total_state = total;
      }
      __syncthreads();
    }
  }
  const float sum = total_state->sum;
  for (int i = 2 * thread; i < hd; i += 2 * kWarp * kGeneralWarps)
    store_activation<2>(p.o, out + i, {finish(total_values[i], sum), finish(total_values[i + 1], sum)});
}

}  // namespace swiftkv::cuda
