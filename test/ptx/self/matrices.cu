// Self-tests of the matrix instructions: in shared memory any bits, addresses in any order, sums of any values.
#include "backends/cuda/ptx.h"

using namespace swiftkv::cuda;

// in: 32 rows of 4 words, then the row that each lane names.
template <int kMatrices, class Load>
SWIFTKV_DEVICE void self_ldmatrix(const uint32_t* in, uint32_t* out, Load load) {
  SWIFTKV_DYNAMIC_SHARED(uint32_t, shared);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 4; ++i) shared[4 * lane + i] = in[4 * lane + i];
  __syncthreads();
  uint32_t r[kMatrices];
  load(r, shared + in[128 + lane] % 32u * 4);
  for (int i = 0; i < kMatrices; ++i) out[kMatrices * lane + i] = r[i];
}

extern "C" __global__ void self_ldmatrix_x4(const uint32_t* in, uint32_t* out) {
  self_ldmatrix<4>(in, out, [](uint32_t(&r)[4], const uint32_t* row) { ptx::ldmatrix_x4(r, row); });
}
extern "C" __global__ void self_ldmatrix_x2(const uint32_t* in, uint32_t* out) {
  self_ldmatrix<2>(in, out, [](uint32_t(&r)[2], const uint32_t* row) { ptx::ldmatrix_x2(r, row); });
}
extern "C" __global__ void self_ldmatrix_x4_trans(const uint32_t* in, uint32_t* out) {
  self_ldmatrix<4>(in, out, [](uint32_t(&r)[4], const uint32_t* row) { ptx::ldmatrix_x4_trans(r, row); });
}
extern "C" __global__ void self_ldmatrix_x2_trans(const uint32_t* in, uint32_t* out) {
  self_ldmatrix<2>(in, out, [](uint32_t(&r)[2], const uint32_t* row) { ptx::ldmatrix_x2_trans(r, row); });
}

// in: per lane 4 words of A, 2 of B, 4 sums.
template <class Multiply>
SWIFTKV_DEVICE void self_mma(const uint32_t* in, uint32_t* out, Multiply multiply) {
  const int lane = static_cast<int>(threadIdx.x);
  uint32_t a[4], b[2];
  float d[4];
  for (int i = 0; i < 4; ++i) a[i] = in[10 * lane + i];
  for (int i = 0; i < 2; ++i) b[i] = in[10 * lane + 4 + i];
  for (int i = 0; i < 4; ++i) d[i] = __uint_as_float(in[10 * lane + 6 + i]);
  multiply(d, a, b);
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = __float_as_uint(d[i]);
}

extern "C" __global__ void self_mma_bf16(const uint32_t* in, uint32_t* out) {
  self_mma(in, out, [](float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) { ptx::mma_bf16(d, a, b); });
}
extern "C" __global__ void self_mma_f16(const uint32_t* in, uint32_t* out) {
  self_mma(in, out, [](float(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2]) { ptx::mma_f16(d, a, b); });
}
