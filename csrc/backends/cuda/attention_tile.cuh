// Tiles of attention in shared memory: 32 keys of K or V copied from pages, and 16 rows of queries as bf16 parts. Rows
// are cut in chunks of 16 bytes, and a chunk's place is swizzled by its row so that the eight rows of an 8 x 8 matrix
// lie in eight different groups of banks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/attention_rows.cuh"

namespace swiftkv::cuda {

template <int kChunks>
struct ChunkedRows {
  // Chunks that may change places: a row's number of chunks divided by its odd part, and no more than 8.
  static constexpr int kCycle = kChunks % 8 == 0 ? 8 : kChunks % 4 == 0 ? 4 : kChunks % 2 == 0 ? 2 : 1;

  // Where chunk `lane_chunk + chunk` of row `lane_row + row` lies: chunk c of row r is in place c ^ swizzle(r). Of each
  // sum the second term is a constant and has no bit in common with the first, so that the sums of a whole loop differ
  // by constants and in few values of the exclusive or: otherwise every one would take a register.
  static __device__ int offset(int lane_row, int row, int lane_chunk, int chunk) {
    const int place = lane_chunk ^ swizzle(lane_row) ^ (chunk % kCycle ^ swizzle(row));
    return (lane_row + row) * kChunks * 16 + chunk / kCycle * kCycle * 16 + place * 16;
  }

 private:
  static __device__ constexpr int swizzle(int row) { return row / (8 / kCycle) % kCycle; }
};

// C: element of the cache, bf16 or fp8_e4m3.
template <class C, int kHeadDim>
struct KeyTile {
  static constexpr bool kFp8 = sizeof(C) == 1;
  static constexpr int kChunks = kHeadDim * static_cast<int>(sizeof(C)) / 16;
  static constexpr int kScales = kTileKeys * kChunks * 16;  // where the scales [32] of fp8 rows begin
  static constexpr int kStageBytes = kScales + (kFp8 ? kTileKeys * 4 : 0);
  using Rows = ChunkedRows<kChunks>;
};

// Copies tiles of one sequence and KV head, by kThreads threads together. Keys from `keys` on are zeros: nothing is
// read for them, neither tables nor pages.
template <class C, int kHeadDim, int kThreads>
class KeyTileLoader {
 public:
  __device__ KeyTileLoader(const KvCache& cache, const int32_t* blocks, int kv_head, int keys)
      : head_(cache.data + kv_head * cache.head_bytes),
        block_bytes_(cache.block_bytes),
        dynamic_(cache.scales == KvScales::dynamic),
        blocks_(blocks),
        keys_(keys) {}

  // Before the first tile of a walk.
  __device__ void start(int tile) { fetch(tile); }

  // Begin the copies of a tile, K and then V; tiles come in ascending order. Block ids are fetched one tile ahead.
  __device__ void load_k(std::byte* stage, int tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) ids_[i] = next_ids_[i];
    fetch(tile + 1);
    load(stage, tile, 0);
  }
  __device__ void load_v(std::byte* stage, int tile) { load(stage, tile, 1); }

 private:
  using Tile = KeyTile<C, kHeadDim>;
  static constexpr int kPageItems = kBlockTokens * Tile::kChunks;
  static_assert(kTileKeys == 2 * kBlockTokens);

  __device__ void fetch(int tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int block = 2 * tile + i;
      next_ids_[i] = block * kBlockTokens < keys_ ? blocks_[block] : -1;
    }
  }

  __device__ void load(std::byte* stage, int tile, int part) const {
    const int thread = static_cast<int>(threadIdx.x) % kThreads;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const std::byte* page = head_ + (ids_[i] < 0 ? 0 : ids_[i]) * block_bytes_;
      const int rows = ids_[i] < 0 ? 0 : keys_ - tile * kTileKeys - i * kBlockTokens;  // that there are, or more
#pragma unroll
      for (int j = 0; j < (kPageItems + kThreads - 1) / kThreads; ++j) {
        const int item = thread + j * kThreads, row = item / Tile::kChunks;
        if (kPageItems % kThreads != 0 && item >= kPageItems) break;
        // Where threads take whole rows, a thread's chunk is always the same.
        constexpr bool kWholeRows = kThreads % Tile::kChunks == 0;
        const int to =
            kWholeRows ? Tile::Rows::offset(thread / Tile::kChunks, j * (kThreads / Tile::kChunks) + i * kBlockTokens,
                                            thread % Tile::kChunks, 0)
                       : Tile::Rows::offset(row, i * kBlockTokens, item % Tile::kChunks, 0);
        ptx::cp_async_16(stage + to, page + (part * kPageItems + item) * 16, row < rows);
      }
      if constexpr (Tile::kFp8) {
        if (dynamic_ && thread < kBlockTokens)
          ptx::cp_async_4(stage + Tile::kScales + (i * kBlockTokens + thread) * 4,
                          page + 2 * kPageItems * 16 + (part * kBlockTokens + thread) * 4, thread < rows);
      }
    }
  }

  const std::byte* head_;
  int64_t block_bytes_;
  bool dynamic_;
  const int32_t* blocks_;
  int keys_;
  int32_t ids_[2] = {-1, -1}, next_ids_[2] = {-1, -1};
};

// The queries of 16 rows: [kParts][16][hd] bf16. With fp8 keys, whose fragments have four neighbouring widths in one
// word, the widths of each 16 are in the order in which those fragments take them: 0 1 4 5 8 9 12 13, 2 3 6 7 10 11 14
// 15.
template <class C, int kHeadDim, int kParts>
struct QueryTile {
  static constexpr bool kFp8 = sizeof(C) == 1;
  using Rows = ChunkedRows<kHeadDim / 8>;
  static constexpr int kPartBytes = kTileRows * kHeadDim * 2;

  // The whole warp stores; rows that are none are zeros.
  static __device__ void store(std::byte* to, const AttentionParams& p, const RowTile& tile) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < kHeadDim / 32; ++j) {
        const int chunk = lane % 4 + 4 * j;
        uint32_t parts[2][4];
#pragma unroll
        for (int pair = 0; pair < 4; ++pair) {
          const int width = kFp8 ? chunk / 2 * 16 + pair * 4 + chunk % 2 * 2 : chunk * 8 + pair * 2;
          load(p.q, tile.head_row[i], width, parts[0][pair], parts[1][pair]);
        }
#pragma unroll
        for (int part = 0; part < kParts; ++part)
          *reinterpret_cast<uint4*>(to + part * kPartBytes + Rows::offset(lane / 4, 8 * i, lane % 4, 4 * j)) =
              make_uint4(parts[part][0], parts[part][1], parts[part][2], parts[part][3]);
      }
  }

  // The fragment of A of widths [16 step, 16 step + 16).
  static __device__ void fragment(uint32_t (&a)[4], const std::byte* queries, int part, int step) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    ptx::ldmatrix_x4(a, queries + part * kPartBytes + Rows::offset(lane % 16, 0, lane / 16, 2 * step));
  }

 private:
  static __device__ void load(const Activation& q, int64_t head_row, int width, uint32_t& high, uint32_t& low) {
    high = low = 0;
    if (head_row < 0) return;
    const int64_t at = head_row * kHeadDim + width;
    if constexpr (kParts == 1) {
      high = *reinterpret_cast<const uint32_t*>(static_cast<const bf16*>(q.data) + at);
    } else {
      const float2 x = *reinterpret_cast<const float2*>(static_cast<const float*>(q.data) + at);
      high = ptx::pack_bf16x2(x.x, x.y);
      low = ptx::pack_bf16x2(x.x - bf16_low(high), x.y - bf16_high(high));
    }
  }
};

}  // namespace swiftkv::cuda
