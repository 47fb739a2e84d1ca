// Attention of sequences with any number of query rows: each warp of a block has a tile of 16 rows, and all of them
// share the tiles of keys that the block loads.
#pragma once

#include "backends/cuda/attention_split.cuh"

namespace swiftkv::cuda {

// One block for each KV head and place of a tile of rows. Places of sequence b begin at query_start[b] * group / rows
// of a tile + b, which leaves it enough of them whatever the others have; places that it does not need return at once.
template <class C, int kHeadDim, int kParts>
__global__ void __launch_bounds__(kWarp* attention_prefill_tiles(kHeadDim) * attention_width_parts(kHeadDim), 1)
    attention_prefill_kernel(AttentionParams p, int64_t places) {
  using Attention = SplitAttention<C, kHeadDim, kParts>;
  constexpr int kTiles = attention_prefill_tiles(kHeadDim), kRows = kTiles * kTileRows, kWidths = Attention::kWidths;
  constexpr int kWidthParts = attention_width_parts(kHeadDim), kThreads = kTiles * kWidthParts * kWarp;
  constexpr int kQueryBytes = kParts * Attention::Queries::kPartBytes, kTotalBytes = attention_total_bytes(kWidths);
  SWIFTKV_DYNAMIC_SHARED(std::byte, shared);
  const int warp = warp_uniform(static_cast<int>(threadIdx.x) / kWarp), tile = warp / kWidthParts;
  const int part = warp % kWidthParts;
  std::byte* const queries = shared + tile * kQueryBytes;
  const TotalValues<kWidths> total(shared + kTiles * kQueryBytes + warp * kTotalBytes);
  std::byte* const stages = shared + kTiles * (kQueryBytes + kWidthParts * kTotalBytes);
  int32_t* const most_of_tile = reinterpret_cast<int32_t*>(stages + 2 * Attention::Tile::kStageBytes);

  const int64_t group = p.num_heads / p.cache.num_kv_heads;
  const int kv_head = static_cast<int>(blockIdx.x % static_cast<unsigned>(p.cache.num_kv_heads));
  // The last places first: their rows see the most keys.
  const int64_t place = places - 1 - blockIdx.x / static_cast<unsigned>(p.cache.num_kv_heads);
  const auto first_place = [&](int32_t b) { return p.half.query_start[b] * group / kRows + b; };
  const int32_t sequence = last_at_most(place, p.half.num_seqs, first_place);
  const int32_t row = p.half.query_start[sequence], count = p.half.query_start[sequence + 1] - row;
  const int64_t first = (place - first_place(sequence)) * kRows;
  if (!selected(p.select, count) || first >= count * group) return;

  const RowTile rows = row_tile(p, row, kv_head, first + tile * kTileRows, count * group);
  if (part == 0) {
    Attention::Queries::store(queries, p, rows);
    if (threadIdx.x % kWarp == 0) most_of_tile[tile] = rows.most;
  }
  __syncthreads();
  int most = most_of_tile[0];
  for (int t = 1; t < kTiles; ++t) most = most_of_tile[t] > most ? most_of_tile[t] : most;
  most = warp_uniform(most);

  Attention attention(p, kv_head, queries, rows, part);
  KeyTileLoader<C, kHeadDim, kThreads> loader(p.cache, block_table(p.half, sequence), kv_head, most);
  SoftmaxState state[2] = {empty_state(), empty_state()};
  walk_keys<kThreads>(attention, loader, stages, 0, (most + kTileKeys - 1) / kTileKeys, [&](int split) {
    if (!attention.sees(split * kTilesPerSplit)) return;
    attention.finish_split();
    if (split == 0) {
      state[0] = attention.state(0);
      state[1] = attention.state(1);
      total.set(attention.values());
    } else {
      const MergeFactors factors[2] = {merge(state[0], attention.state(0)), merge(state[1], attention.state(1))};
      total.merge(factors, attention.values());
    }
    attention.reset();
  });
  const int64_t at[2] = {first_element(rows.head_row[0], kHeadDim, part * kWidths),
                         first_element(rows.head_row[1], kHeadDim, part * kWidths)};
#pragma unroll 1
  for (int pair = 0; pair < kWidths / 16; ++pair) total.template store<Attention::kFp8>(p.o, at, state, pair);
}

}  // namespace swiftkv::cuda
