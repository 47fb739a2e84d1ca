// Counter-based random numbers: a pure function of three counters, the same on every machine and backend. constexpr,
// which makes them callable from device code.
#pragma once

#include <cstdint>

namespace swiftkv {

// The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64 bits that mixes well.
static constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Uniform in [0, 1) with 53 bits, for the token at `position` among the outputs of choice `choice` of a request.
static constexpr double sample_uniform(uint64_t seed, uint32_t choice, uint32_t position) {
  const uint64_t golden = 0x9e3779b97f4a7c15ull;
  uint64_t x = mix64(seed + golden);
  x = mix64(x + golden * (uint64_t{choice} + 1));
  x = mix64(x + golden * (uint64_t{position} + 1));
  return static_cast<double>(x >> 11) * 0x1p-53;
}

}  // namespace swiftkv
