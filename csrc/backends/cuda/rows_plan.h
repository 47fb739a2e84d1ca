// Grids of the ops that walk rows element by element: a thread takes a few neighbouring elements of one row.
#pragma once

#include <cstdint>

namespace swiftkv::cuda {

inline constexpr int kRowThreads = 256;  // most threads of a block
inline constexpr int kWarpThreads = 32;

struct RowsPlan {
  int32_t threads;          // of a block; whole warps
  uint32_t blocks_per_row;  // block b works on row b / blocks_per_row
  constexpr int64_t blocks(int64_t rows) const { return rows * int64_t{blocks_per_row}; }
};

// A thread takes `elements` neighbours. Narrow rows get small blocks, so that no warp is idle from the start.
constexpr RowsPlan plan_rows(int64_t width, int elements) {
  const int64_t threads = (width + elements - 1) / elements;
  const int64_t warps = (threads + kWarpThreads - 1) / kWarpThreads;
  if (warps * kWarpThreads <= kRowThreads) return {static_cast<int32_t>(warps > 0 ? warps : 1) * kWarpThreads, 1};
  return {kRowThreads, static_cast<uint32_t>((threads + kRowThreads - 1) / kRowThreads)};
}

// A block has the whole row and goes over it; its threads depend on the width alone, and with them the order of sums.
constexpr RowsPlan plan_row_blocks(int64_t width, int elements) {
  return {plan_rows(width, elements).threads, 1};
}

}  // namespace swiftkv::cuda
