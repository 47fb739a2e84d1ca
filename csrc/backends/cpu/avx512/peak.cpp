// What 512-bit instructions do at most: multiply-adds in registers, and reads.
#include <immintrin.h>

#include "backends/cpu/avx512/ops.h"

namespace swiftkv::cpu::avx512 {

namespace {

constexpr int kChains = 24;  // of 32 registers; two instructions a cycle of four or five cycles each need ten
constexpr int64_t kLanes = 16;

// Values that the compiler knows nothing about: it would do equal chains as one.
struct Registers {
  alignas(64) float values[kChains + 2][kLanes];

  Registers() {
    for (auto& row : values)
      for (float& x : row) x = 0.5f;
    hide();
  }
  void hide() { asm volatile("" : : "r"(this) : "memory"); }
  __m512 get(int i) const { return _mm512_load_ps(values[i]); }
  void put(int i, __m512 v) { _mm512_store_ps(values[i], v); }
};

int64_t fma_f32(int64_t steps) {
  Registers r;
  const __m512 a = r.get(kChains), b = r.get(kChains + 1);
  __m512 sums[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) sums[c] = r.get(c);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_fmadd_ps(a, b, sums[c]);
  }
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) r.put(c, sums[c]);
  r.hide();
  return steps * kChains * kLanes * 2;
}

int64_t dot_bf16(int64_t steps) {
  Registers r;
  const auto a = reinterpret_cast<__m512bh>(r.get(kChains)), b = reinterpret_cast<__m512bh>(r.get(kChains + 1));
  __m512 sums[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) sums[c] = r.get(c);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], a, b);
  }
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) r.put(c, sums[c]);
  r.hide();
  return steps * kChains * kLanes * 4;
}

[[gnu::target("avx512vnni")]] int64_t spin_int8(int64_t steps) {
  Registers r;
  const __m512i a = _mm512_load_si512(r.values[kChains]), b = _mm512_load_si512(r.values[kChains + 1]);
  __m512i sums[kChains];
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) sums[c] = _mm512_load_si512(r.values[c]);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], a, b);
  }
#pragma GCC unroll 24
  for (int c = 0; c < kChains; ++c) _mm512_store_si512(r.values[c], sums[c]);
  r.hide();
  return steps * kChains * kLanes * 8;
}

// VNNI is not part of the level.
int64_t dot_int8(int64_t steps) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512vnni") ? spin_int8(steps) : -1;
}

// Four streams at once: with one, the processor's prefetcher waits at every page.
void read(const std::byte* data, size_t bytes) {
  constexpr int kStreams = 4;
  constexpr size_t kStep = 128;
  const size_t stream = bytes / kStreams / kStep * kStep;
  __m512i sums[2 * kStreams] = {};
  for (size_t i = 0; i < stream; i += kStep) {
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      const std::byte* p = data + s * stream + i;
      sums[2 * s] = _mm512_xor_si512(sums[2 * s], _mm512_load_si512(p));
      sums[2 * s + 1] = _mm512_xor_si512(sums[2 * s + 1], _mm512_load_si512(p + 64));
    }
  }
  uint32_t rest = 0;
  for (size_t i = kStreams * stream; i < bytes; ++i) rest ^= static_cast<uint32_t>(data[i]);
  for (int i = 0; i < 2 * kStreams; ++i) asm volatile("" : : "v"(sums[i]));
  asm volatile("" : : "r"(rest));
}

}  // namespace

const PeakLoops kPeakLoops{.fma_f32 = fma_f32, .dot_bf16 = dot_bf16, .dot_int8 = dot_int8, .read = read};

}  // namespace swiftkv::cpu::avx512
