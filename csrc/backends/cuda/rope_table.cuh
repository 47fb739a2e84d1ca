// Cosines and sines of every position, in double: it runs once, when a model is loaded.
#pragma once

#include "backends/cuda/platform.h"
#include "backends/cuda/rows_plan.h"
#include "core/ops.h"

namespace swiftkv::cuda {

struct CosSin {
  double cos, sin;
};

// Within 2 units of a double for |angle| < 2^31. The library's functions reduce greater angles too, through an array in
// local memory, which no kernel of this backend may have.
SWIFTKV_DEVICE CosSin cos_sin(double angle) {
  // pi / 2 in two doubles: the rest is below 2^-107, times n below 2^-76.
  constexpr double kHigh = 0x1.921fb54442d18p+0, kLow = 0x1.1a62633145c07p-54;
  const double n = rint(angle * 0x1.45f306dc9c883p-1);
  const double r = fma(-n, kLow, fma(-n, kHigh, angle));
  const double z = r * r;
  // The minimax polynomials of fdlibm (k_sin.c, k_cos.c) on |r| <= pi / 4.
  double s = 1.58969099521155010221e-10;
  s = fma(s, z, -2.50507602534068634195e-08);
  s = fma(s, z, 2.75573137070700676789e-06);
  s = fma(s, z, -1.98412698298579493134e-04);
  s = fma(s, z, 8.33333333332248946124e-03);
  s = fma(s, z, -1.66666666666666324348e-01);
  s = fma(s * z, r, r);
  double c = -1.13596475577881948265e-11;
  c = fma(c, z, 2.08757232129817482790e-09);
  c = fma(c, z, -2.75573143513906633035e-07);
  c = fma(c, z, 2.48015872894767294178e-05);
  c = fma(c, z, -1.38888888888741095749e-03);
  c = fma(c, z, 4.16666666666666019037e-02);
  c = fma(c * z, z, fma(-0.5, z, 1.0));
  const auto quarter = static_cast<uint32_t>(static_cast<int64_t>(n));
  const double x = (quarter & 1u) != 0 ? s : c, y = (quarter & 1u) != 0 ? c : s;
  return {((quarter + 1u) & 2u) != 0 ? -x : x, (quarter & 2u) != 0 ? -y : y};
}

__global__ void rope_table_kernel(RopeTableParams p, uint32_t blocks_per_row) {
  const uint32_t block = blockIdx.x % blocks_per_row;
  const int64_t position = blockIdx.x / blocks_per_row;
  const int64_t half = p.head_dim / 2, i = int64_t{block} * blockDim.x + threadIdx.x;
  if (i >= half) return;
  // One product: nothing that a compiler could contract the rounding of the angle away with.
  const float angle = static_cast<float>(position) * p.inv_freq[i];
  const CosSin at = cos_sin(static_cast<double>(angle));
  float* row = p.table + position * p.head_dim;
  row[i] = static_cast<float>(at.cos);
  row[half + i] = static_cast<float>(at.sin);
}

}  // namespace swiftkv::cuda
