// How attention is launched: which kernel, how many warps, how splits are spread over blocks, how much shared memory
// and scratch. Pure functions of a problem's sizes and the device's limits; no choice here changes a bit of a row.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backends/cuda/kernels.h"

namespace swiftkv::cuda {

// A tile is 16 query rows of one KV head: (token, query head of the group) pairs, tokens being the slow axis.
inline constexpr int kTileRows = 16;
// Keys of one softmax step; tiles of keys lie at multiples of this.
inline constexpr int kTileKeys = 32;
inline constexpr int kTilesPerSplit = kAttentionSplit / kTileKeys;

enum class AttentionKernel : int32_t {
  tensor_cores,  // bf16 and fp8 caches, head widths 32, 64, 96, 128, 256
  general,       // every other cache and even width: plain multiply-adds, one row and head a block
};

constexpr bool is_tensor_core_width(int64_t head_dim) {
  return head_dim == 32 || head_dim == 64 || head_dim == 96 || head_dim == 128 || head_dim == 256;
}

constexpr AttentionKernel attention_kernel(DType cache, int64_t head_dim) {
  return cache != DType::f32 && is_tensor_core_width(head_dim) ? AttentionKernel::tensor_cores
                                                               : AttentionKernel::general;
}

// What the choices for one call depend on.
struct AttentionProblem {
  int64_t rows;
  int32_t num_seqs, table_stride, num_heads, num_kv_heads, head_dim;
  DType cache, q;
};

constexpr AttentionProblem attention_problem(const AttentionParams& p) {
  return {p.half.rows,          p.half.num_seqs,  p.half.table_stride, p.num_heads,
          p.cache.num_kv_heads, p.cache.head_dim, p.cache.dtype,       p.q.dtype};
}

// Queries of f32 are the sum of two bf16 parts, 16 bits together; those of bf16 are one.
constexpr int query_parts(DType q) {
  return q == DType::f32 ? 2 : 1;
}

// ---- shared memory of the tensor-core kernels ----

// One tile of keys, K or V, with a scale for each.
constexpr int32_t attention_stage_bytes(DType cache, int32_t head_dim) {
  return kTileKeys * (head_dim * static_cast<int32_t>(dtype_bytes(cache)) + (cache == DType::fp8_e4m3 ? 4 : 0));
}
// The queries of one tile of rows.
constexpr int32_t attention_query_bytes(DType q, int32_t head_dim) {
  return query_parts(q) * kTileRows * head_dim * 2;
}
// The merged values of one tile of rows, f32.
constexpr int32_t attention_total_bytes(int32_t head_dim) {
  return kTileRows * head_dim * 4;
}

// Widths of the values that one warp keeps. Wider heads take two warps, which both weigh the keys.
constexpr int attention_widths(int32_t head_dim) {
  return head_dim > 128 ? 128 : head_dim;
}
constexpr int attention_width_parts(int32_t head_dim) {
  return head_dim / attention_widths(head_dim);
}

// Tiles of rows of a prefill block, which share every tile of keys.
constexpr int attention_prefill_tiles(int32_t head_dim) {
  return 4 / attention_width_parts(head_dim);
}

// Splits that a decode block has under way, each with stages of its own to load keys.
constexpr int attention_decode_slots(int32_t head_dim) {
  return head_dim > 128 ? 1 : 4;
}

struct PrefillPlan {
  int32_t threads, shared_bytes;
  int64_t places;  // blocks of a KV head, at most: each sequence starts one of its own
  int64_t blocks;  // of all KV heads
};

constexpr PrefillPlan prefill_plan(const AttentionProblem& p) {
  const int32_t tiles = attention_prefill_tiles(p.head_dim);
  const int64_t group = p.num_heads / p.num_kv_heads, places = p.rows * group / (kTileRows * tiles) + p.num_seqs;
  return {tiles * attention_width_parts(p.head_dim) * 32,
          tiles * (attention_query_bytes(p.q, p.head_dim) + attention_total_bytes(p.head_dim)) +
              2 * attention_stage_bytes(p.cache, p.head_dim) + tiles * static_cast<int32_t>(sizeof(int32_t)),
          places, places * p.num_kv_heads};
}

// Memory for the states of splits, at most; beyond it blocks merge their splits themselves.
inline constexpr int64_t kSplitStateBudget = int64_t{128} << 20;
// Below this many tiles a multiprocessor, splits of one tile go to several blocks.
inline constexpr int64_t kDecodeTilesPerSm = 2;
// And then to this many blocks a multiprocessor in all.
inline constexpr int64_t kDecodeBlocksPerSm = 8;

struct DecodePlan {
  int32_t slots, threads, shared_bytes;
  int64_t tiles;         // of 16 rows: sequences x KV heads x tiles of a group
  int32_t max_splits;    // of a sequence whose table is full
  bool splits_apart;     // states of splits go to scratch and a second kernel merges them
  int32_t split_blocks;  // blocks that the splits of a tile are spread over
  size_t scratch_bytes;
};

// Bytes that the states of all splits of one sequence take: per query head values [hd], maximum and sum.
constexpr int64_t split_state_bytes(const AttentionProblem& p, int32_t max_splits) {
  return int64_t{max_splits} * p.num_heads * (p.head_dim + 2) * 4;
}

constexpr int32_t decode_max_splits(const AttentionProblem& p) {
  constexpr int32_t blocks = kAttentionSplit / kBlockTokens;
  return std::max((p.table_stride + blocks - 1) / blocks, 1);
}

constexpr int64_t decode_tiles_per_seq(const AttentionProblem& p) {
  const int64_t group = p.num_heads / p.num_kv_heads;
  return p.num_kv_heads * ((group + kTileRows - 1) / kTileRows);
}

// The most sequences whose splits still go apart.
constexpr int64_t decode_most_seqs_apart(const AttentionProblem& p, const DeviceLimits& limits) {
  const int64_t by_tiles = (kDecodeTilesPerSm * limits.num_sms - 1) / decode_tiles_per_seq(p);
  return std::min(by_tiles, kSplitStateBudget / split_state_bytes(p, decode_max_splits(p)));
}

constexpr DecodePlan decode_plan(const AttentionProblem& p, const DeviceLimits& limits) {
  DecodePlan plan{};
  plan.slots = attention_decode_slots(p.head_dim);
  plan.threads = plan.slots * attention_width_parts(p.head_dim) * 32;
  plan.tiles = p.num_seqs * decode_tiles_per_seq(p);
  plan.max_splits = decode_max_splits(p);
  plan.shared_bytes = attention_query_bytes(p.q, p.head_dim) + attention_total_bytes(p.head_dim) +
                      attention_width_parts(p.head_dim) * kTileRows * 2 * static_cast<int32_t>(sizeof(float)) +
                      plan.slots * 2 * attention_stage_bytes(p.cache, p.head_dim);
  plan.splits_apart = plan.max_splits > 1 && p.num_seqs <= decode_most_seqs_apart(p, limits);
  plan.split_blocks = 1;
  if (plan.splits_apart) {
    const int64_t wanted = kDecodeBlocksPerSm * limits.num_sms / std::max<int64_t>(plan.tiles, 1);
    const int64_t useful = (plan.max_splits + plan.slots - 1) / plan.slots;
    plan.split_blocks = static_cast<int32_t>(std::clamp<int64_t>(wanted, 1, useful));
    plan.scratch_bytes = static_cast<size_t>(p.num_seqs * split_state_bytes(p, plan.max_splits));
  }
  return plan;
}

// Enough for every call with at most as many sequences: fewer may go apart where these do not.
constexpr size_t attention_scratch_bytes(AttentionProblem p, const DeviceLimits& limits) {
  if (attention_kernel(p.cache, p.head_dim) == AttentionKernel::general) return 0;
  p.num_seqs = static_cast<int32_t>(std::clamp<int64_t>(decode_most_seqs_apart(p, limits), 0, p.num_seqs));
  return decode_plan(p, limits).scratch_bytes;
}

// ---- the general kernel: a block for each row and query head ----

inline constexpr int kGeneralWarps = 4;

// Pairs of values that a lane keeps: head widths to 64, 128, 512.
constexpr int general_pairs(int64_t head_dim) {
  return head_dim <= 64 ? 1 : head_dim <= 128 ? 2 : 8;
}

// The query and the merged values of a row [hd] each, a tile of probabilities a warp, maximum and sum.
constexpr int32_t general_shared_bytes(int32_t head_dim) {
  return (2 * head_dim + kGeneralWarps * kTileKeys + 2) * static_cast<int32_t>(sizeof(float));
}

}  // namespace swiftkv::cuda
