// NEON with bfdot (FEAT_BF16): bf16 panels are multiplied two elements at a time, without widening.
#pragma once

#include "backends/cpu/neon/vec.h"

namespace swiftkv::cpu::neon_bf16 {
namespace {

struct Vec : neon::Vec {
  // Words are pairs of bf16 numbers, in rows and panels alike. The instruction decides how a pair's products are
  // rounded.
  struct Bf16Dot {
    using Vec = neon_bf16::Vec;
    using Number = uint32_t;
    static constexpr int kNumbers = 1, kParts = 1;
    static inline F32 column(const uint32_t* words, int) { return simd::read<F32>(words); }
    static inline F32 broadcast(const uint32_t* a) { return reinterpret_cast<F32>(vdupq_n_u32(*a)); }
    static inline F32 step(F32 sum, F32 a, F32 b) {
      return vbfdotq_f32(sum, reinterpret_cast<bfloat16x8_t>(a), reinterpret_cast<bfloat16x8_t>(b));
    }
  };
};

}  // namespace
}  // namespace swiftkv::cpu::neon_bf16
