// The functions of csrc/backends/cuda/ptx.h for the host: the same names, layouts and bits.
#pragma once

#include <cstdint>

#include "backends/simt/platform.h"
#include "core/dtype.h"

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_read_range(void* data, unsigned long bytes);
#endif

namespace swiftkv::cuda::ptx {

using simt::Site;

static inline uint32_t shared_address(const void* p, Site site = Site::current()) {
  return simt::shared_address(p, site);
}

// ---- asynchronous copies ----

static inline void cp_async_16(void* dst, const void* src, bool valid = true, Site site = Site::current()) {
  simt::copy_async(dst, src, 16, valid, site);
}
static inline void cp_async_4(void* dst, const void* src, bool valid = true, Site site = Site::current()) {
  simt::copy_async(dst, src, 4, valid, site);
}
static inline void cp_async_commit() {
  simt::copy_async_commit();
}
template <int N>
static inline void cp_async_wait() {
  simt::copy_async_wait(N);
}

// ---- matrices from shared memory ----

static inline void ldmatrix(uint32_t* r, int matrices, bool transposed, const void* row, const Site& site) {
#if defined(__SANITIZE_THREAD__)
  if (static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32 < 8 * matrices)
    __tsan_read_range(const_cast<void*>(row), 16);
#endif
  simt::LdMatrix m{row, r, matrices, transposed};
  simt::warp_collective(simt::Op::ldmatrix, 0xffffffffu, &m, site);
}
static inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, Site site = Site::current()) {
  ldmatrix(r, 4, false, row, site);
}
static inline void ldmatrix_x2(uint32_t (&r)[2], const void* row, Site site = Site::current()) {
  ldmatrix(r, 2, false, row, site);
}
static inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row, Site site = Site::current()) {
  ldmatrix(r, 4, true, row, site);
}
static inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row, Site site = Site::current()) {
  ldmatrix(r, 2, true, row, site);
}

// ---- products of a warp ----

static inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            Site site = Site::current()) {
  simt::Mma m{d, a, b, false};
  simt::warp_collective(simt::Op::mma, 0xffffffffu, &m, site);
}
static inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current()) {
  simt::Mma m{d, a, b, true};
  simt::warp_collective(simt::Op::mma, 0xffffffffu, &m, site);
}

// ---- conversions: NaN becomes the device's only one ----

static inline uint32_t pack_bf16x2(float lo, float hi) {
  const auto bits = [](float x) { return x != x ? 0x7fffu : uint32_t{to_bf16(x).bits}; };
  return bits(lo) | bits(hi) << 16;
}
static inline uint32_t pack_f16x2(float lo, float hi) {
  const auto bits = [](float x) { return x != x ? 0x7fffu : uint32_t{to_f16(x).bits}; };
  return bits(lo) | bits(hi) << 16;
}
static inline float2 unpack_f16x2(uint32_t x) {
  return {to_f32(f16{static_cast<uint16_t>(x)}), to_f32(f16{static_cast<uint16_t>(x >> 16)})};
}
static inline uint16_t pack_e4m3x2(float lo, float hi) {
  const auto bits = [](float x) { return x != x ? 0x7fu : unsigned{to_fp8_e4m3(x).bits}; };
  return static_cast<uint16_t>(bits(lo) | bits(hi) << 8);
}
static inline uint32_t unpack_e4m3x2_f16x2(uint16_t codes) {
  const auto f = [](unsigned code) { return to_f32(fp8_e4m3{static_cast<uint8_t>(code)}); };
  return pack_f16x2(f(codes & 0xffu), f(codes >> 8));
}

}  // namespace swiftkv::cuda::ptx
