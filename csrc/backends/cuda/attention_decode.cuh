// Attention of sequences with one query row: a block takes the rows of a KV head's group, a warp of it one split at a
// time. Either the states of splits go to memory and merge_splits merges them, or the block merges what it has walked.
#pragma once

#include "backends/cuda/attention_split.cuh"

namespace swiftkv::cuda {

// States of all splits, where they go apart; null where blocks merge.
struct SplitStates {
  float* values;         // [num_seqs, max_splits, Hq, hd]
  SoftmaxState* states;  // [num_seqs, max_splits, Hq]
  int32_t max_splits;
};

SWIFTKV_DEVICE int splits_of(int keys) {
  return (keys + kAttentionSplit - 1) / kAttentionSplit;
}

// The state of one split to memory, by the warp that has it.
template <class C, int kHeadDim, int kParts>
SWIFTKV_DEVICE void store_split(const SplitStates& apart, const SplitAttention<C, kHeadDim, kParts>& attention,
                                const RowTile& rows, int num_heads, int row, int sequence, int split, int part) {
  constexpr int kWidths = attention_widths(kHeadDim);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (rows.head_row[i] < 0) continue;
    const int64_t head = rows.head_row[i] - int64_t{row} * num_heads;
    const int64_t at = (int64_t{sequence} * apart.max_splits + split) * num_heads + head;
    if (part == 0 && threadIdx.x % 4 == 0) apart.states[at] = attention.state(i);
#pragma unroll
    for (int pair = 0; pair < kWidths / 16; ++pair) {
      const float(&low)[4] = attention.values().of[2 * pair], (&high)[4] = attention.values().of[2 * pair + 1];
      store_values<sizeof(C) == 1>({apart.values, DType::f32}, at * kHeadDim + part * kWidths + 16 * pair,
                                   make_float2(low[2 * i], low[2 * i + 1]), make_float2(high[2 * i], high[2 * i + 1]));
    }
  }
}

template <class C, int kHeadDim, int kParts>
__global__ void __launch_bounds__(kWarp* attention_decode_slots(kHeadDim) * attention_width_parts(kHeadDim), 1)
    attention_decode_kernel(AttentionParams p, SplitStates apart) {
  using Attention = SplitAttention<C, kHeadDim, kParts>;
  constexpr int kSlots = attention_decode_slots(kHeadDim), kWidthParts = attention_width_parts(kHeadDim);
  constexpr int kWidths = Attention::kWidths, kQueryBytes = kParts * Attention::Queries::kPartBytes;
  SWIFTKV_DYNAMIC_SHARED(std::byte, shared);
  const int warp = warp_uniform(static_cast<int>(threadIdx.x) / kWarp), slot = warp / kWidthParts;
  const int part = warp % kWidthParts, lane = static_cast<int>(threadIdx.x) % kWarp;
  std::byte* const queries = shared;
  std::byte* const totals = shared + kQueryBytes;  // of each part of the widths
  SoftmaxState* const total_states =               // [16], for each part
      reinterpret_cast<SoftmaxState*>(totals + attention_total_bytes(kHeadDim)) + part * kTileRows;
  std::byte* const stages = totals + attention_total_bytes(kHeadDim) +
                            kWidthParts * kTileRows * static_cast<int>(sizeof(SoftmaxState)) +
                            slot * 2 * Attention::Tile::kStageBytes;

  const int group = p.num_heads / p.cache.num_kv_heads, group_tiles = (group + kTileRows - 1) / kTileRows;
  const int tile = static_cast<int>(blockIdx.x) % group_tiles;
  const int kv_head = static_cast<int>(blockIdx.x) / group_tiles % p.cache.num_kv_heads;
  const int sequence = static_cast<int>(blockIdx.x) / group_tiles / p.cache.num_kv_heads;
  const int32_t row = p.half.query_start[sequence];
  if (p.half.query_start[sequence + 1] - row != 1) return;
  const int splits = warp_uniform(splits_of(visible_keys(p.half, row)));
  if (static_cast<int>(blockIdx.y) * kSlots >= splits) return;

  const RowTile rows = row_tile(p, row, kv_head, tile * kTileRows, group);
  if (warp == 0) Attention::Queries::store(queries, p, rows);
  __syncthreads();
  Attention attention(p, kv_head, queries, rows, part);
  KeyTileLoader<C, kHeadDim, kWidthParts * kWarp> loader(p.cache, block_table(p.half, sequence), kv_head, rows.most);
  const TotalValues<kWidths> total(totals + part * attention_total_bytes(kWidths));
  const int tiles = (rows.most + kTileKeys - 1) / kTileKeys;
#pragma unroll 1
  for (int first = static_cast<int>(blockIdx.y) * kSlots; first < splits;
       first += static_cast<int>(gridDim.y) * kSlots) {
    const int split = first + slot, begin = split * kTilesPerSplit, end = begin + kTilesPerSplit;
    attention.reset();
    walk_keys<kWidthParts * kWarp>(attention, loader, stages, begin, end < tiles ? end : tiles, [](int) {});
    attention.finish_split();
    if (apart.values != nullptr) {
      if (split < splits) store_split(apart, attention, rows, p.num_heads, row, sequence, split, part);
      continue;
    }
#pragma unroll 1
    for (int turn = 0; turn < kSlots; ++turn) {
      if (turn == slot && split < splits) {
        SoftmaxState state[2] = {attention.state(0), attention.state(1)};
        if (split == 0) {
          total.set(attention.values());
        } else {
          state[0] = total_states[lane / 4];
          state[1] = total_states[lane / 4 + 8];
          const MergeFactors factors[2] = {merge(state[0], attention.state(0)), merge(state[1], attention.state(1))};
          total.merge(factors, attention.values());
        }
        __syncwarp();  // all lanes of a row have read its state
        if (lane % 4 == 0) {
          total_states[lane / 4] = state[0];
          total_states[lane / 4 + 8] = state[1];
        }
      }
      __syncthreads();
    }
  }
  if (apart.values != nullptr) return;
  const SoftmaxState state[2] = {total_states[lane / 4], total_states[lane / 4 + 8]};
  const int64_t at[2] = {first_element(rows.head_row[0], kHeadDim, part * kWidths),
                         first_element(rows.head_row[1], kHeadDim, part * kWidths)};
#pragma unroll 1
  for (int pair = slot; pair < kWidths / 16; pair += kSlots)
    total.template store<Attention::kFp8>(p.o, at, state, pair);
}

// A block for each sequence and query head, a thread for each width.
__global__ void merge_splits_kernel(AttentionParams p, SplitStates apart) {
  const int head = static_cast<int>(blockIdx.x) % p.num_heads, sequence = static_cast<int>(blockIdx.x) / p.num_heads;
  const int width = static_cast<int>(threadIdx.x), head_dim = static_cast<int>(blockDim.x);
  const int32_t row = p.half.query_start[sequence];
  if (p.half.query_start[sequence + 1] - row != 1) return;
  const int splits = splits_of(visible_keys(p.half, row));
  const int64_t first = int64_t{sequence} * apart.max_splits * p.num_heads + head;
  SoftmaxState total = empty_state();
  float value = 0.0f;
  // So many loads are under way at once: what follows them is one chain of merges.
  constexpr int kAhead = 8;
#pragma unroll 1
  for (int begin = 0; begin < splits; begin += kAhead) {
    SoftmaxState states[kAhead];
    float values[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int split = begin + i < splits ? begin + i : splits - 1;
      const int64_t at = first + int64_t{split} * p.num_heads;
      states[i] = apart.states[at];
      values[i] = apart.values[at * head_dim + width];
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      if (begin + i < splits) value = merge_values(merge(total, states[i]), value, values[i]);
  }
  const int64_t at = (int64_t{row} * p.num_heads + head) * head_dim + width;
  const float out = finish(value, total.sum);
  if (p.o.dtype == DType::f32)
    static_cast<float*>(p.o.data)[at] = out;
  else
    static_cast<bf16*>(p.o.data)[at] = store_as<bf16>(out);
}

}  // namespace swiftkv::cuda
