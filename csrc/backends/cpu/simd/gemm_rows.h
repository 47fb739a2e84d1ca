// The activations of a product in the form that its arithmetic takes (LinearParams in core/ops.h).
#pragma once

#include <cstddef>

#include "backends/cpu/avx512/gemm_plan.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/quantized.h"
#include "backends/cpu/simd/product.h"

namespace swiftkv::cpu::simd {

// How a product is cut does not depend on the level: the plan decides no bits, and caches are what they are.
using avx512::div_up;
using avx512::GemmPlan;
using avx512::plan_gemm;

// Elements that one claim of a thread prepares: about 10 us.
inline constexpr int64_t kPrepareElements = 32 << 10;

static inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static inline int64_t aligned(int64_t bytes) {
  return div_up(bytes, 64) * 64;
}

// A row of k activations in the form that a Dot takes pairs in, padded with zero to whole steps.
template <class V, class T>
static inline void prepare_row(const T* a, int64_t k, float* out) {
  int64_t i = 0;
  for (; i + V::kLanes <= k; i += V::kLanes) store<V>(out + i, load<V>(a + i));
  for (; i < k; ++i) out[i] = to_f32(a[i]);
  if (k % 2 != 0) out[k] = 0.0f;
}

template <class V>
static inline void prepare_row(const bf16* a, int64_t k, uint32_t* out) {
  if (k % 2 != 0) out[k / 2] = 0;
  __builtin_memcpy(out, a, static_cast<size_t>(k) * sizeof(bf16));
}

// What the codes of a row, quantized to fp8, stand for, without the row's scale, which is returned. NaN is passed over
// by the scale; its code is NaN.
template <class V, class T>
static inline float prepare_fp8_row(const T* a, int64_t k, float* out) {
  using F32 = typename V::F32;
  F32 most{};
  for (int64_t i = 0; i < k; i += V::kLanes) {
    const F32 x = abs_lanes<V>(load_first<V>(a + i, k - i));
    most = x > most ? x : most;
  }
  const float scale = fp8_scale(max_lanes<V>(most));
  for (int64_t i = 0; i < k; i += V::kLanes) {
    const F32 codes = load_first<V>(a + i, k - i) / set<V>(scale);
    store_first<V>(out + i, k - i, decode_fp8<V>(encode_fp8<V>(codes)));
  }
  if (k % 2 != 0) out[k] = 0.0f;
  return scale;
}

// A row as 8-bit integers, padded with 0 to whole groups, and the scales of its groups.
template <class T>
static inline void prepare_int8_row(const T* a, int64_t k, int8_t* codes, float* scales) {
  for (int64_t i = 0; i < k; i += kQuantGroup, codes += kQuantGroup, ++scales) {
    float x[kQuantGroup] = {};
    const int64_t count = smaller(kQuantGroup, k - i);
    for (int64_t j = 0; j < count; ++j) x[j] = to_f32(a[i + j]);
    // As integers, magnitudes order like numbers, with infinity and NaN above all.
    int32_t bits = 0;
    for (int64_t j = 0; j < kQuantGroup; ++j) {
      const int32_t magnitude = __builtin_bit_cast(int32_t, x[j]) & 0x7fffffff;
      bits = magnitude > bits ? magnitude : bits;
    }
    const float most = __builtin_bit_cast(float, bits);
    const bool finite = most < __builtin_inff();  // false for NaN
    if (!finite || most < kQuantLeast) {
      for (int64_t j = 0; j < kQuantGroup; ++j) codes[j] = 0;
      *scales = finite ? 0.0f : __builtin_nanf("");
      continue;
    }
    const float inverse = 127.0f / most;
    // Beside 1.5 * 2^23 the unit is 1: the adder rounds to the nearest integer, ties to even, and the low bits count
    // it.
    for (int64_t j = 0; j < kQuantGroup; ++j)
      codes[j] = static_cast<int8_t>(__builtin_bit_cast(uint32_t, x[j] * inverse + 0x1.8p23f) & 0xff);
    *scales = most / 127.0f;
  }
}

// Calls f(row) for every row, on the context's threads if there are many.
template <class F>
static void for_rows(int64_t rows, int64_t k, const Context& ctx, const F& f) {
  const int64_t at_once = kPrepareElements > k ? kPrepareElements / k : 1;
  if (rows <= at_once) {
    for (int64_t r = 0; r < rows; ++r) f(r);
    return;
  }
  ctx.parallel_for(div_up(rows, at_once), [&](int64_t piece, int) {
    for (int64_t r = piece * at_once; r < smaller((piece + 1) * at_once, rows); ++r) f(r);
  });
}

}  // namespace swiftkv::cpu::simd
