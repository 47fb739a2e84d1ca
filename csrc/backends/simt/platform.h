// The host's side of csrc/backends/cuda/platform.h: the keywords and functions of CUDA that kernels may use, for g++.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "backends/simt/executor.h"
#include "backends/simt/launch.h"
#include "backends/simt/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static

// A variable of the block. One block runs at a time, so a static one is a block's; the first thread that comes to it
// finds NaN bytes.
#define SWIFTKV_SHARED(T, name, ...) \
  static T name __VA_ARGS__;         \
  ::swiftkv::simt::static_shared(&name, sizeof name, ::swiftkv::simt::Site::current())

// A block's dynamic shared memory, as an array of T. Once per kernel.
#define SWIFTKV_DYNAMIC_SHARED(T, name) \
  T* const name = reinterpret_cast<T*>(::swiftkv::simt::shared_memory(alignof(T), ::swiftkv::simt::Site::current()))

// ---- barriers ----

static inline void __syncthreads(swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  swiftkv::simt::block_barrier(swiftkv::simt::Reduction::none, 0, site);
}
static inline int __syncthreads_or(int predicate, swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::block_barrier(swiftkv::simt::Reduction::any, predicate, site);
}
static inline int __syncthreads_and(int predicate, swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::block_barrier(swiftkv::simt::Reduction::all, predicate, site);
}
static inline int __syncthreads_count(int predicate, swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::block_barrier(swiftkv::simt::Reduction::count, predicate, site);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  swiftkv::simt::warp_collective(swiftkv::simt::Op::sync, mask, nullptr, site);
}

// Order between blocks is not modelled: they run one after the other.
static inline void __threadfence() {}
static inline void __threadfence_block() {}

[[noreturn]] static inline void __trap(swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  swiftkv::simt::stop(site, "trap");
}

// ---- shuffles and votes ----

namespace swiftkv::simt {

template <class T>
static inline T shuffle(Op op, unsigned mask, T value, int operand, int width, const Site& site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
  Shuffle s{{0, 0}, sizeof(T) / 4, operand, width};
  std::memcpy(s.words, &value, sizeof(T));
  warp_collective(op, mask, &s, site);
  std::memcpy(&value, s.words, sizeof(T));
  return value;
}

static inline uint32_t vote(Op op, unsigned mask, int predicate, const Site& site) {
  Vote v{predicate, 0};
  warp_collective(op, mask, &v, site);
  return v.result;
}

}  // namespace swiftkv::simt

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
                            swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::shuffle(swiftkv::simt::Op::shuffle_index, mask, value, lane, width, site);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                               swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::shuffle(swiftkv::simt::Op::shuffle_up, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::shuffle(swiftkv::simt::Op::shuffle_down, mask, value, static_cast<int>(delta), width, site);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32,
                                swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::shuffle(swiftkv::simt::Op::shuffle_xor, mask, value, lane_mask, width, site);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate,
                                     swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return swiftkv::simt::vote(swiftkv::simt::Op::ballot, mask, predicate, site);
}
static inline int __any_sync(unsigned mask, int predicate, swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return static_cast<int>(swiftkv::simt::vote(swiftkv::simt::Op::any, mask, predicate, site));
}
static inline int __all_sync(unsigned mask, int predicate, swiftkv::simt::Site site = swiftkv::simt::Site::current()) {
  return static_cast<int>(swiftkv::simt::vote(swiftkv::simt::Op::all, mask, predicate, site));
}

// ---- atomics on shared and global words ----

template <class T, class F>
static inline T swiftkv_atomic(T* address, F&& next) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  T before, after;
  __atomic_load(address, &before, __ATOMIC_RELAXED);
  do {
    after = next(before);
  } while (!__atomic_compare_exchange(address, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return before;
}

static inline int atomicAdd(int* p, int v) {
  return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
static inline unsigned atomicAdd(unsigned* p, unsigned v) {
  return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
static inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) {
  return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
static inline float atomicAdd(float* p, float v) {
  return swiftkv_atomic(p, [v](float x) { return x + v; });
}
static inline int atomicMax(int* p, int v) {
  return swiftkv_atomic(p, [v](int x) { return x > v ? x : v; });
}
static inline unsigned atomicMax(unsigned* p, unsigned v) {
  return swiftkv_atomic(p, [v](unsigned x) { return x > v ? x : v; });
}
static inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) {
  return swiftkv_atomic(p, [v](unsigned long long x) { return x > v ? x : v; });
}
static inline int atomicMin(int* p, int v) {
  return swiftkv_atomic(p, [v](int x) { return x < v ? x : v; });
}
static inline unsigned atomicMin(unsigned* p, unsigned v) {
  return swiftkv_atomic(p, [v](unsigned x) { return x < v ? x : v; });
}
static inline unsigned long long atomicMin(unsigned long long* p, unsigned long long v) {
  return swiftkv_atomic(p, [v](unsigned long long x) { return x < v ? x : v; });
}
static inline int atomicOr(int* p, int v) {
  return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
static inline unsigned atomicOr(unsigned* p, unsigned v) {
  return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);
}
static inline int atomicExch(int* p, int v) {
  return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);
}
static inline unsigned atomicExch(unsigned* p, unsigned v) {
  return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);
}
static inline float atomicExch(float* p, float v) {
  return swiftkv_atomic(p, [v](float) { return v; });
}
static inline int atomicCAS(int* p, int expected, int v) {
  __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
static inline unsigned atomicCAS(unsigned* p, unsigned expected, unsigned v) {
  __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
static inline unsigned long long atomicCAS(unsigned long long* p, unsigned long long expected, unsigned long long v) {
  __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

// ---- bits ----

static inline unsigned __float_as_uint(float x) {
  return std::bit_cast<unsigned>(x);
}
static inline float __uint_as_float(unsigned x) {
  return std::bit_cast<float>(x);
}
static inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
static inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
static inline int __popc(unsigned x) {
  return std::popcount(x);
}
static inline int __popcll(unsigned long long x) {
  return std::popcount(x);
}
static inline int __ffs(int x) {
  return __builtin_ffs(x);
}
static inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
static inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
static inline int __clzll(long long x) {
  return std::countl_zero(static_cast<unsigned long long>(x));
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>((uint64_t{a} * b) >> 32);
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned s = selector >> 4 * i & 7u;  // nvcc drops the bit that would replicate a sign
    result |= (static_cast<unsigned>(bytes >> 8 * s) & 0xffu) << 8 * i;
  }
  return result;
}

// The sum of c and the products of four pairs of signed bytes.
static inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 32; i += 8) c += static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i);
  return c;
}

// ---- mathematics beyond <cmath> ----

// Macros, as newer C libraries declare functions of these names.
static inline float swiftkv_rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
static inline double swiftkv_rsqrt(double x) {
  return 1.0 / std::sqrt(x);
}
#define rsqrtf swiftkv_rsqrtf
#define rsqrt swiftkv_rsqrt
#define __expf expf
#define __exp10f exp10f
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __powf powf
static inline float __fdividef(float x, float y) {
  return x / y;
}
static inline float __frcp_rn(float x) {
  return 1.0f / x;
}
static inline float __saturatef(float x) {
  return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}
// Never contracted to a multiply-add, on either side.
static inline float __fadd_rn(float x, float y) {
  return x + y;
}
static inline float __fmul_rn(float x, float y) {
  return x * y;
}
static inline float __fmaf_rn(float x, float y, float z) {
  return std::fma(x, y, z);
}
static inline float __fdiv_rn(float x, float y) {
  return x / y;
}
static inline float __fsqrt_rn(float x) {
  return std::sqrt(x);
}

template <class T>
static inline T __ldg(const T* p) {
  return *p;
}
