// Every PTX instruction of the kernels, a function each; kernels contain no asm. For the host the same functions are
// in csrc/backends/simt/ptx_twins.h; test/ptx runs one self-test kernel per function through a PTX interpreter and
// compares it with the twin.
//
// Fragments of a warp's 16 x 16 x 16 product, lane l, g = l / 4, t = l % 4 (PTX ISA, mma.m16n8k16):
//   A [16][16]  a0 (g, 2t..2t+1)  a1 (g+8, 2t..)  a2 (g, 2t+8..)  a3 (g+8, 2t+8..)
//   B [16][8]   b0 (2t..2t+1, g)  b1 (2t+8.., g)         as columns: B[k][n] with pairs along k
//   C, D [16][8] d0 d1 (g, 2t..2t+1)  d2 d3 (g+8, 2t..2t+1)
#pragma once

#include "backends/cuda/platform.h"

#if !defined(__CUDACC__)

#include "backends/simt/ptx_twins.h"

#else

#include <cstdint>

namespace swiftkv::cuda::ptx {

SWIFTKV_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// ---- asynchronous copies, sm_80 ----

// 16 bytes from global to shared memory, both 16-byte aligned, past the L1 cache; zeros where `valid` is false, and
// then `src` is not read.
SWIFTKV_DEVICE void cp_async_16(void* dst, const void* src, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(dst)), "l"(src), "r"(bytes)
               : "memory");
}

// 4 bytes, 4-byte aligned, through the L1 cache.
SWIFTKV_DEVICE void cp_async_4(void* dst, const void* src, bool valid = true) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(dst)), "l"(src), "r"(bytes)
               : "memory");
}

SWIFTKV_DEVICE void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until at most N of this thread's groups are under way. Other threads see the bytes after a barrier.
template <int N>
SWIFTKV_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// ---- matrices from shared memory ----

// Four 8 x 8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8 (16-byte aligned).
// r[m] is elements (l / 4, 2 (l % 4)..) of matrix m.
SWIFTKV_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// Lanes 0 to 15 give addresses; the others give any valid one.
SWIFTKV_DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// The same with every matrix transposed: r[m] is elements (2 (l % 4).., l / 4).
SWIFTKV_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

SWIFTKV_DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// ---- products of a warp: d += A B, f32 sums ----

SWIFTKV_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

SWIFTKV_DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- conversions: nearest, ties to even ----

// The lower half is `lo`.
SWIFTKV_DEVICE uint32_t pack_bf16x2(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

SWIFTKV_DEVICE uint32_t pack_f16x2(float lo, float hi) {
  uint32_t r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}

// Both halves of an f16 pair as f32.
SWIFTKV_DEVICE float2 unpack_f16x2(uint32_t x) {
  float2 r;
  asm("{.reg .b16 lo, hi; mov.b32 {lo, hi}, %2; cvt.f32.f16 %0, lo; cvt.f32.f16 %1, hi;}"
      : "=f"(r.x), "=f"(r.y)
      : "r"(x));
  return r;
}

#if __CUDA_ARCH__ >= 890

// Two e4m3 codes, saturating at 448; NaN gives 0x7f. The lower byte is `lo`.
SWIFTKV_DEVICE uint16_t pack_e4m3x2(float lo, float hi) {
  uint16_t r;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(hi), "f"(lo));
  return r;
}

// Two codes as an f16 pair, exactly.
SWIFTKV_DEVICE uint32_t unpack_e4m3x2_f16x2(uint16_t codes) {
  uint32_t r;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(codes));
  return r;
}

#endif

}  // namespace swiftkv::cuda::ptx

#endif
