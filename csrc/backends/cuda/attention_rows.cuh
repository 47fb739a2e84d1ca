// Which rows, queries and keys a block of attention has: everything it reads from the half's description.
#pragma once

#include <cstdint>

#include "backends/cuda/attention_plan.h"
#include "backends/cuda/convert.h"
#include "backends/cuda/warp.h"
#include "core/ops.h"

namespace swiftkv::cuda {

SWIFTKV_DEVICE bool selected(QuerySelect select, int32_t query_rows) {
  return select == QuerySelect::one_row ? query_rows == 1 : query_rows > (select == QuerySelect::many_rows ? 1 : 0);
}

// Keys that a row sees. A padded row may have any position; it gets one key.
SWIFTKV_DEVICE int32_t visible_keys(const RowsView& half, int64_t row) {
  const int32_t position = half.positions[row];
  return (position > 0 ? position : 0) + 1;
}

SWIFTKV_DEVICE const int32_t* block_table(const RowsView& half, int32_t sequence) {
  return half.block_tables + int64_t{half.table_row[sequence]} * half.table_stride;
}

// The largest b of [0, count) with first(b) <= x, where `first` ascends and first(0) <= x.
template <class F>
SWIFTKV_DEVICE int32_t last_at_most(int64_t x, int32_t count, F&& first) {
  int32_t low = 0, high = count;
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    if (first(middle) <= x)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// A tile of 16 rows as lane l of its warp sees it: rows l / 4 and l / 4 + 8, as fragments of products have them.
struct RowTile {
  int64_t head_row[2];   // row * Hq + head: times hd where q and o have it; -1: no such row, nothing is stored
  int32_t keys[2];       // that the rows see; for no row as many as any of the tile
  int32_t most, fewest;  // keys of the rows of the tile
};

// Rows [first, first + 16) of the `count` (token, head) pairs of one sequence and KV head, whose tokens begin at `row`.
// The whole warp calls it.
SWIFTKV_DEVICE RowTile row_tile(const AttentionParams& p, int64_t row, int32_t kv_head, int64_t first, int64_t count) {
  const int32_t group = p.num_heads / p.cache.num_kv_heads;
  RowTile tile;
  tile.most = 0;
  tile.fewest = INT32_MAX;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int64_t pair = first + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * i;
    tile.head_row[i] = -1;
    tile.keys[i] = 0;
    if (pair < count) {
      const int64_t token = row + pair / group;
      tile.head_row[i] = token * p.num_heads + kv_head * group + pair % group;
      tile.keys[i] = visible_keys(p.half, token);
      tile.most = tile.keys[i] > tile.most ? tile.keys[i] : tile.most;
      tile.fewest = tile.keys[i] < tile.fewest ? tile.keys[i] : tile.fewest;
    }
  }
#pragma unroll
  for (int offset = 4; offset < kWarp; offset *= 2) {
    const int32_t most = __shfl_xor_sync(kAllLanes, tile.most, offset);
    const int32_t fewest = __shfl_xor_sync(kAllLanes, tile.fewest, offset);
    tile.most = most > tile.most ? most : tile.most;
    tile.fewest = fewest < tile.fewest ? fewest : tile.fewest;
  }
  tile.most = warp_uniform(tile.most);
  tile.fewest = warp_uniform(tile.fewest);
#pragma unroll
  for (int i = 0; i < 2; ++i)
    if (tile.head_row[i] < 0) tile.keys[i] = tile.most;
  return tile;
}

// Where the widths of a head row from `width` on lie in q or o; -1 for no row.
SWIFTKV_DEVICE int64_t first_element(int64_t head_row, int head_dim, int width) {
  return head_row < 0 ? -1 : head_row * head_dim + width;
}

// Stores to an activation, f32 or bf16, at elements [at, at + N).
template <int N>
SWIFTKV_DEVICE void store_activation(const Activation& out, int64_t at, const float (&x)[N]) {
  if (out.dtype == DType::f32) {
    float* to = static_cast<float*>(out.data) + at;
    if constexpr (N == 4)
      *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
    else
      *reinterpret_cast<float2*>(to) = make_float2(x[0], x[1]);
  } else {
    bf16* to = static_cast<bf16*>(out.data) + at;
    if constexpr (N == 4)
      *reinterpret_cast<uint2*>(to) = make_uint2(ptx::pack_bf16x2(x[0], x[1]), ptx::pack_bf16x2(x[2], x[3]));
    else
      *reinterpret_cast<uint32_t*>(to) = ptx::pack_bf16x2(x[0], x[1]);
  }
}

}  // namespace swiftkv::cuda
