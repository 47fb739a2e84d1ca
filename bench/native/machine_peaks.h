// What this machine can do at most, measured: multiply-adds in registers and reads from memory.
#pragma once

#include <immintrin.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/thread_pool.h"

namespace swiftkv::bench {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline __m512 add_products_f32(__m512 acc, __m512 a, __m512 b) {
  return _mm512_fmadd_ps(a, b, acc);
}

inline __m512 add_products_bf16(__m512 acc, __m512 a, __m512 b) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

// `steps` times 16 independent multiply-adds; the empty asm keeps each one in the loop and in its register.
template <__m512 (*kAdd)(__m512, __m512, __m512), size_t... I>
[[gnu::noinline]] void spin_products(int64_t steps, std::index_sequence<I...>) {
  __m512 acc[sizeof...(I)] = {((void)I, _mm512_setzero_ps())...};
  __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
  asm volatile("" : "+v"(a), "+v"(b));
  for (int64_t i = 0; i < steps; ++i) {
    ((acc[I] = kAdd(acc[I], a, b)), ...);
    asm volatile(""
                 : "+v"(acc[0]), "+v"(acc[1]), "+v"(acc[2]), "+v"(acc[3]), "+v"(acc[4]), "+v"(acc[5]), "+v"(acc[6]),
                   "+v"(acc[7]), "+v"(acc[8]), "+v"(acc[9]), "+v"(acc[10]), "+v"(acc[11]));
  }
}

// The same with 256 bits: what a machine without AVX-512 has.
[[gnu::noinline]] inline void spin_products_256(int64_t steps) {
  __m256 acc[12] = {};
  __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
  asm volatile("" : "+x"(a), "+x"(b));
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (__m256& x : acc) x = _mm256_fmadd_ps(a, b, x);
    asm volatile(""
                 : "+x"(acc[0]), "+x"(acc[1]), "+x"(acc[2]), "+x"(acc[3]), "+x"(acc[4]), "+x"(acc[5]), "+x"(acc[6]),
                   "+x"(acc[7]), "+x"(acc[8]), "+x"(acc[9]), "+x"(acc[10]), "+x"(acc[11]));
  }
}

// Floating-point operations a second of `threads` threads with 256-bit multiply-adds in f32.
inline double peak_flops_256(ThreadPool& pool, int threads, int64_t steps) {
  constexpr int64_t kPiece = 4096;
  const int64_t pieces = steps / kPiece * threads;
  const double start = seconds();
  pool.parallel_for(threads, pieces, [&](int64_t, int) { spin_products_256(kPiece); });
  return static_cast<double>(pieces * kPiece * 12 * 16) / (seconds() - start);
}

// Floating-point operations a second of `threads` threads, over about `steps` * 12 instructions each.
inline double peak_flops(ThreadPool& pool, int threads, bool bf16, int64_t steps) {
  constexpr int64_t kChains = 12;
  constexpr int64_t kPiece = 4096;
  const int64_t pieces = steps / kPiece * threads;
  const double start = seconds();
  pool.parallel_for(threads, pieces, [&](int64_t, int) {
    const auto chains = std::make_index_sequence<kChains>{};
    bf16 ? spin_products<add_products_bf16>(kPiece, chains) : spin_products<add_products_f32>(kPiece, chains);
  });
  return static_cast<double>(pieces * kPiece * kChains * (bf16 ? 64 : 32)) / (seconds() - start);
}

[[gnu::noinline]] inline void read_bytes(const std::byte* data, size_t bytes) {
  __m512i sums[8] = {};
  for (size_t i = 0; i < bytes; i += 512) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) sums[j] = _mm512_xor_si512(sums[j], _mm512_load_si512(data + i + 64 * j));
  }
  for (int j = 0; j < 8; ++j) asm volatile("" : : "v"(sums[j]));
}

// Bytes a second that `threads` threads read from a block (a multiple of 512 bytes; larger than every cache together
// with what was read since).
inline double read_bandwidth(ThreadPool& pool, int threads, const std::byte* data, size_t bytes) {
  constexpr size_t kPiece = size_t{256} << 10;
  const double start = seconds();
  pool.parallel_for(threads, static_cast<int64_t>((bytes + kPiece - 1) / kPiece), [&](int64_t piece, int) {
    const size_t begin = static_cast<size_t>(piece) * kPiece;
    read_bytes(data + begin, begin + kPiece < bytes ? kPiece : bytes - begin);
  });
  return static_cast<double>(bytes) / (seconds() - start);
}

}  // namespace swiftkv::bench
