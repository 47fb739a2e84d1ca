// Four lanes: Advanced SIMD of AArch64.
#pragma once

#include <arm_neon.h>

#include "backends/cpu/simd/product.h"
#include "backends/cpu/simd/vec.h"

namespace swiftkv::cpu::neon {
namespace {

struct Vec : simd::Lanes<4> {
  // Of 32 registers; the others hold four columns of weights, a broadcast and a mask.
  static constexpr int kAccumulators = 24;
  using Bf16Dot = simd::DotWidened<Vec>;

  static inline F32 fmadd(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
  static inline F64 fmadd(F64 a, F64 b, F64 c) { return vfmaq_f64(c, a, b); }
  static inline F32 sqrt(F32 v) { return vsqrtq_f32(v); }

  static inline U32 widen(U16 v) { return reinterpret_cast<U32>(vmovl_u16(reinterpret_cast<uint16x4_t>(v))); }
  static inline U32 widen(U8 v) {
    const uint16x8_t words = vmovl_u8(vcreate_u8(reinterpret_cast<uint32_t>(v)));
    return reinterpret_cast<U32>(vmovl_u16(vget_low_u16(words)));
  }

  static inline U16 narrow16(U32 v) { return reinterpret_cast<U16>(vmovn_u32(reinterpret_cast<uint32x4_t>(v))); }
  static inline U8 narrow8(U32 v) {
    const uint16x4_t words = vmovn_u32(reinterpret_cast<uint32x4_t>(v));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    return reinterpret_cast<U8>(vget_lane_u32(vreinterpret_u32_u8(bytes), 0));
  }

  // Sums of neighbouring pairs; each vector holds two outputs.
  struct Int8Sums {
    int32x4_t low, high;
  };
  static inline Int8Sums add_products(Int8Sums sums, S8 w, S8 a) {
    const auto weights = reinterpret_cast<int8x16_t>(w), x = reinterpret_cast<int8x16_t>(a);
    return {vpadalq_s16(sums.low, vmull_s8(vget_low_s8(weights), vget_low_s8(x))),
            vpadalq_s16(sums.high, vmull_high_s8(weights, x))};
  }
  static inline I32 total(Int8Sums sums) { return reinterpret_cast<I32>(vpaddq_s32(sums.low, sums.high)); }

  static inline void transpose(U32 (&rows)[4]) {
    const auto a = reinterpret_cast<uint32x4_t>(rows[0]), b = reinterpret_cast<uint32x4_t>(rows[1]);
    const auto c = reinterpret_cast<uint32x4_t>(rows[2]), d = reinterpret_cast<uint32x4_t>(rows[3]);
    const uint64x2_t even_ab = vreinterpretq_u64_u32(vtrn1q_u32(a, b)),
                     odd_ab = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
    const uint64x2_t even_cd = vreinterpretq_u64_u32(vtrn1q_u32(c, d)),
                     odd_cd = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
    rows[0] = reinterpret_cast<U32>(vtrn1q_u64(even_ab, even_cd));
    rows[1] = reinterpret_cast<U32>(vtrn1q_u64(odd_ab, odd_cd));
    rows[2] = reinterpret_cast<U32>(vtrn2q_u64(even_ab, even_cd));
    rows[3] = reinterpret_cast<U32>(vtrn2q_u64(odd_ab, odd_cd));
  }
};

}  // namespace
}  // namespace swiftkv::cpu::neon
