// Work cut into pieces of a fixed size, so that sums over pieces run in an order that no thread count changes.
#pragma once

#include <cstdint>

namespace swiftkv::cpu {

static constexpr int64_t piece_count(int64_t total, int64_t size) {
  return (total + size - 1) / size;
}

struct Piece {
  int64_t begin, end;
};

static constexpr Piece piece_of(int64_t index, int64_t size, int64_t total) {
  const int64_t begin = index * size;
  return {begin, total - begin < size ? total : begin + size};
}

}  // namespace swiftkv::cpu
