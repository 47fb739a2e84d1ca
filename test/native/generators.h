// Shapes and values that tests and benchmarks share.
#pragma once

#include <cstdint>
#include <vector>

#include "core/random.h"

namespace swiftkv::test {

// Small deterministic generator; every test seeds its own.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  uint64_t next() { return mix64(state_ += 0x9e3779b97f4a7c15ull); }
  // Uniform in [low, high).
  float uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(static_cast<double>(next() >> 11) * 0x1p-53);
  }
  // Uniform in [0, n).
  int64_t below(int64_t n) { return static_cast<int64_t>(next() % static_cast<uint64_t>(n)); }

 private:
  uint64_t state_;
};

inline std::vector<float> random_values(Rng& rng, int64_t count, float scale = 1.0f) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& x : values) x = rng.uniform(-scale, scale);
  return values;
}

// Row counts: none, one, the edges of tiles and blocks, large.
inline const std::vector<int64_t> kRowCounts{0, 1, 2, 15, 16, 17, 33, 65};

// Lengths of vectors that a kernel walks: shorter than a register, edges of 16, 32 and 64, odd, large.
inline const std::vector<int64_t> kWidths{1, 2, 15, 16, 17, 31, 63, 64, 65, 255, 256, 257, 1000};

struct ProductShape {
  int64_t rows, n, k;
};

// Matrix products: empty, single, panel edges, odd k (a padded pair), more rows than a tile, model-like.
inline const std::vector<ProductShape> kProductShapes{
    {0, 64, 64},   {1, 1, 1},     {1, 64, 64},   {1, 63, 17},   {2, 65, 33},    {3, 128, 255}, {7, 257, 256},
    {15, 64, 257}, {16, 192, 64}, {17, 100, 96}, {1, 640, 512}, {33, 320, 128}, {64, 96, 513}, {130, 130, 130},
};

struct HeadShape {
  int32_t num_heads, num_kv_heads, head_dim;
};

// Query heads, KV heads, head width: GQA 1..8, one KV head, odd counts, widths that are no power of two.
inline const std::vector<HeadShape> kHeadShapes{
    {1, 1, 8},  {4, 2, 16}, {3, 3, 32},  {8, 1, 64},  {6, 2, 80},
    {5, 1, 96}, {4, 4, 24}, {8, 2, 128}, {12, 4, 64}, {7, 1, 48},
};

}  // namespace swiftkv::test
