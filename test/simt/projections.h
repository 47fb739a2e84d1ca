// What the tests of qkv_rope_cache, q_rope and swiftkv_project share.
#pragma once

#include <string>

#include "backends/cpu/scalar/ops.h"
#include "chunks.h"
#include "compare.h"
#include "device_weights.h"
#include "projection_problems.h"
#include "reference.h"

namespace swiftkv::test {

// One head, odd counts, widths of every tile: narrow, no power of two, the widest that fit a tile, too wide for one.
inline const HeadShape kTileHeadShapes[] = {{1, 1, 8},  {3, 3, 16}, {5, 1, 32},  {2, 1, 64},  {3, 2, 80},
                                            {2, 1, 96}, {3, 1, 6},  {2, 1, 128}, {2, 1, 256}, {1, 1, 320}};

inline std::string text(const ProjectionTypes& t) {
  return std::string(dtype_name(t.a)) + " by " + dtype_name(t.weights) + " to " + dtype_name(t.q);
}

// What the pages hold in the given slots; rows of -1 are zero.
inline void read_pages(const Cache& cache, const std::vector<int32_t>& slots, std::vector<float>& k,
                       std::vector<float>& v) {
  const size_t count = slots.size() * static_cast<size_t>(cache.shape.num_kv_heads * cache.shape.head_dim);
  k.assign(count, 0.0f);
  v.assign(count, 0.0f);
  run_reference(&cpu::scalar::kv_dequantize,
                KvDequantizeParams{static_cast<int64_t>(slots.size()), slots.data(), cache.view(), k.data(), v.data()});
}

// Distance of stored values to those of the scalar level: both are off by the sums' error, which may tip a rounding to
// the next value of the cache's type. sums_error: relative to the largest of all values.
inline Tolerance stored_tolerance(const std::vector<float>& expected, DType dtype, double sums_error) {
  double most = 0.0;
  for (const float x : expected) most = std::max(most, std::fabs(static_cast<double>(x)));
  const double step = dtype == DType::bf16 ? 2.02 * kUnitBf16 : dtype == DType::fp8_e4m3 ? 0x1p-3 * 1.01 : 2 * kUnit;
  return [&expected, step, most, sums_error](size_t i) {
    return step * std::fabs(static_cast<double>(expected[i])) + (sums_error + step * 0x1p-9) * most;
  };
}

}  // namespace swiftkv::test
