// Plain arithmetic, as the kernels of this level: what the compiler makes of it is this level's peak.
#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::scalar {

namespace {

constexpr int kChains = 64;

int64_t fma_f32(int64_t steps) {
  // Unknown to the compiler, or it would do all chains as one.
  volatile float from[kChains];
  for (int i = 0; i < kChains; ++i) from[i] = static_cast<float>(i);
  volatile float a_source = 0.5f, b_source = 0.25f;
  const float a = a_source, b = b_source;
  float x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = from[i];
  for (int64_t step = 0; step < steps; ++step)
    for (int i = 0; i < kChains; ++i) x[i] = x[i] * a + b;
  for (int i = 0; i < kChains; ++i) from[i] = x[i];
  return steps * kChains * 2;
}

void read(const std::byte* data, size_t bytes) {
  // Four streams at once: with one, the processor's prefetcher waits at every page.
  constexpr size_t kStreams = 4, kWords = 8;
  const size_t stream = bytes / kStreams / (kWords * sizeof(uint64_t)) * kWords;
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t sums[kWords] = {};
  for (size_t i = 0; i < stream; i += kWords)
    for (size_t s = 0; s < kStreams; ++s)
      for (size_t w = 0; w < kWords; ++w) sums[w] ^= words[s * stream + i + w];
  uint64_t sum = 0;
  for (size_t w = 0; w < kWords; ++w) sum ^= sums[w];
  for (size_t i = kStreams * stream * sizeof(uint64_t); i < bytes; ++i) sum ^= static_cast<uint64_t>(data[i]);
  volatile uint64_t sink = sum;
  static_cast<void>(sink);
}

}  // namespace

const PeakLoops kPeakLoops{.fma_f32 = fma_f32, .dot_bf16 = nullptr, .dot_int8 = nullptr, .read = read};

}  // namespace swiftkv::cpu::scalar
