// What a level's vectors do at most: multiply-adds in registers, and reads.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/simd/product.h"

namespace swiftkv::cpu::simd {

// `steps` times V::kAccumulators independent steps of Dot, each kOperations for every lane. The empty asm hides the
// starting values: equal chains would become one.
template <class Dot, int kOperations>
[[gnu::noinline]] static int64_t spin(int64_t steps) {
  using V = typename Dot::Vec;
  using F32 = typename V::F32;
  constexpr int kChains = V::kAccumulators;
  float memory[kChains + 2][V::kLanes];
  for (int c = 0; c < kChains + 2; ++c)
    for (int i = 0; i < V::kLanes; ++i) memory[c][i] = 0.5f;
  asm volatile("" : : "r"(&memory) : "memory");
  const F32 a = load<V>(memory[kChains]), b = load<V>(memory[kChains + 1]);
  F32 sums[kChains];
#pragma GCC unroll 32
  for (int c = 0; c < kChains; ++c) sums[c] = load<V>(memory[c]);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) sums[c] = Dot::step(sums[c], a, b);
  }
#pragma GCC unroll 32
  for (int c = 0; c < kChains; ++c) store<V>(memory[c], sums[c]);
  asm volatile("" : : "r"(&memory) : "memory");
  return steps * kChains * V::kLanes * kOperations;
}

// Four streams at once: with one, the processor's prefetcher waits at every page.
template <class V>
static void read_all(const std::byte* data, size_t bytes) {
  using U32 = typename V::U32;
  constexpr size_t kStreams = 4, kStep = 2 * sizeof(U32);
  const size_t stream = bytes / kStreams / kStep * kStep;
  U32 sums[2 * kStreams] = {};
  for (size_t i = 0; i < stream; i += kStep) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kStreams; ++s) {
      const std::byte* p = data + s * stream + i;
      sums[2 * s] ^= read<U32>(p);
      sums[2 * s + 1] ^= read<U32>(p + sizeof(U32));
    }
  }
  for (size_t i = kStreams * stream; i < bytes; ++i) sums[0] ^= static_cast<uint32_t>(data[i]);
  for (size_t i = 1; i < 2 * kStreams; ++i) sums[0] ^= sums[i];
  asm volatile("" : : "r"(&sums) : "memory");
}

// A level whose bf16 product widens in registers has no instruction for it.
template <class Dot>
static constexpr auto bf16_loop() -> int64_t (*)(int64_t) {
  if constexpr (Dot::kParts == 1)
    return spin<Dot, 4>;
  else
    return nullptr;
}

template <class V>
static constexpr PeakLoops kPeakLoops{
    .fma_f32 = spin<DotF32<V>, 2>,
    .dot_bf16 = bf16_loop<typename V::Bf16Dot>(),
    .dot_int8 = nullptr,
    .read = read_all<V>,
};

}  // namespace swiftkv::cpu::simd
