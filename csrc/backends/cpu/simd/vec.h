// What the kernels of this folder ask of a vector type, and what follows from it.
//
// The kernels are templates over a level's `Vec`, a class in an unnamed namespace of that level. So everything that is
// instantiated with it has internal linkage, and no function compiled for one level can stand in for another's. What is
// no such template here is `static inline` for the same reason.
//
// A Vec is a Lanes<N> and adds, as static members:
//   kAccumulators                    vectors of sums that a product may keep in registers
//   Bf16Dot                          how it multiplies bf16 panels (product.h)
//   F32 fmadd(F32 a, F32 b, F32 c)   a * b + c, rounded once; the same for F64
//   F32 sqrt(F32)
//   U32 widen(U16), U32 widen(U8)
//   Int8Sums add_products(Int8Sums, S8 w, S8 a), I32 total(Int8Sums)   sums of w * a over the four bytes of each lane;
//   a
//                                    is not below -127. Int8Sums{} is zero
//   U16 narrow16(U32), U8 narrow8(U32)   of lanes that fit
//   void transpose(U32 (&rows)[N])
// Arithmetic is the operators of GNU vectors: `mask ? a : b` selects lanes, and a comparison is a mask.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace swiftkv::cpu::simd {

// The types of N lanes of 32 bits, and of half as many of 64.
template <int N>
struct Lanes {
  static constexpr int kLanes = N;
  using F32 [[gnu::vector_size(N * 4)]] = float;
  using U32 [[gnu::vector_size(N * 4)]] = uint32_t;
  using I32 [[gnu::vector_size(N * 4)]] = int32_t;
  using U16 [[gnu::vector_size(N * 2)]] = uint16_t;
  using U8 [[gnu::vector_size(N)]] = uint8_t;
  using S8 [[gnu::vector_size(N * 4)]] = int8_t;
  using I16Pairs [[gnu::vector_size(N * 4)]] = int16_t;
  using U8Pairs [[gnu::vector_size(N * 2)]] = uint8_t;
  using HalfF32 [[gnu::vector_size(N * 2)]] = float;
  using F64 [[gnu::vector_size(N * 4)]] = double;
  using U64 [[gnu::vector_size(N * 4)]] = uint64_t;
};

// Vectors at any address, as bytes.
template <class T>
static inline T read(const void* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
static inline void write(void* p, T v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// x in every lane: unlike adding, subtracting 0 changes no number, so nothing is left of it.
template <class V>
static inline typename V::F32 set(float x) {
  return x - typename V::F32{};
}

template <class V>
static inline typename V::F32 as_f32(typename V::U32 bits) {
  return reinterpret_cast<typename V::F32>(bits);
}

template <class V>
static inline typename V::U32 as_bits(typename V::F32 x) {
  return reinterpret_cast<typename V::U32>(x);
}

// ---- e4m3 codes, bit for bit what core/dtype.h does one at a time ----

// Round to nearest even, saturate to +-448, NaN stays NaN: to_fp8_e4m3 of every lane.
template <class V>
static inline typename V::U32 encode_fp8(typename V::F32 x) {
  using U32 = typename V::U32;
  const U32 u = as_bits<V>(x);
  const U32 magnitude = u & 0x7fffffffu;
  const U32 rounded = magnitude + 0x7ffffu + (magnitude >> 20 & 1u);
  // Below 2^-6 the steps are 2^-9, the unit of 2^14 in f32: the adder rounds.
  const U32 shifted = as_bits<V>(as_f32<V>(magnitude) + 16384.0f) - 0x46800000u;
  U32 code = magnitude < 0x3c800000u ? shifted : (rounded - 0x3c000000u) >> 20;
  code = magnitude >= 0x43e00000u ? U32{} + 0x7eu : code;
  code = magnitude > 0x7f800000u ? U32{} + 0x7fu : code;
  return code | (u >> 24 & 0x80u);
}

// to_f32 of every lane. The code's exponent and mantissa fields, moved to those of f32, are the value times 2^-120,
// subnormals included; the multiplication is exact.
template <class V>
static inline typename V::F32 decode_fp8(typename V::U32 codes) {
  using U32 = typename V::U32;
  const U32 magnitude = codes & 0x7fu;
  const U32 scaled = as_bits<V>(as_f32<V>(magnitude << 20) * 0x1p120f);
  const U32 value = magnitude == 0x7fu ? U32{} + 0x7fc00000u : scaled;
  return as_f32<V>(value | (codes & 0x80u) << 24);
}

// Codes two a lane as bf16 pairs, exactly. A code's magnitude m stands for the bf16 of bits 0x3c00 + 16 m; below 8 it
// is subnormal and gains an exponent for each bit that it lacks: 0x3b80 + 32 m, 0x3b00 + 64 m, 0x3a80 + 128 m. The
// right one is the least.
template <class V>
static inline typename V::U32 widen_fp8_pairs(typename V::U8Pairs codes) {
  using I16 = typename V::I16Pairs;
  const auto least = [](I16 a, I16 b) { return a < b ? a : b; };
  const I16 wide = __builtin_convertvector(codes, I16), m = wide & 0x7f;
  const I16 bits = least(least((m << 4) + 0x3c00, (m << 5) + 0x3b80), least((m << 6) + 0x3b00, (m << 7) + 0x3a80));
  const I16 number = (bits & (m > 0)) | ((m == 0x7f) & 0x7fc0);
  return reinterpret_cast<typename V::U32>(number | ((wide & 0x80) << 8));
}

// ---- loads and stores that convert ----

template <class V>
static inline typename V::F32 load(const float* p) {
  return read<typename V::F32>(p);
}

template <class V>
static inline typename V::F32 load(const bf16* p) {
  return as_f32<V>(V::widen(read<typename V::U16>(p)) << 16);
}

// Exponent and mantissa moved to those of f32 are the value times 2^-112, subnormals included.
template <class V>
static inline typename V::F32 load(const f16* p) {
  using U32 = typename V::U32;
  const U32 h = V::widen(read<typename V::U16>(p)), magnitude = h & 0x7fffu;
  const U32 scaled = as_bits<V>(as_f32<V>(magnitude << 13) * 0x1p112f);
  const U32 value = magnitude >= 0x7c00u ? magnitude << 13 | 0x7f800000u : scaled;
  return as_f32<V>(value | (h & 0x8000u) << 16);
}

template <class V>
static inline typename V::F32 load(const fp8_e4m3* p) {
  return decode_fp8<V>(V::widen(read<typename V::U8>(p)));
}

template <class V>
static inline void store(float* out, typename V::F32 v) {
  write(out, v);
}

// The bits of to_bf16 of every lane, subnormals included: what is in a page is the same at every level.
template <class V>
static inline typename V::U32 bf16_bits(typename V::F32 v) {
  const typename V::U32 u = as_bits<V>(v);
  const typename V::U32 rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
  return v == v ? rounded : (u >> 16 | 0x40u);
}

template <class V>
static inline void store(bf16* out, typename V::F32 v) {
  write(out, V::narrow16(bf16_bits<V>(v)));
}

template <class V>
static inline void store(fp8_e4m3* out, typename V::F32 v) {
  write(out, V::narrow8(encode_fp8<V>(v)));
}

// The first n lanes, zero behind them; any n. Reads nothing but those.
template <class V, class T>
static inline typename V::F32 load_first(const T* p, int64_t n) {
  if (n >= V::kLanes) return load<V>(p);
  T x[V::kLanes] = {};
  for (int64_t i = 0; i < n; ++i) x[i] = p[i];
  return load<V>(x);
}

template <class V, class T>
static inline void store_first(T* out, int64_t n, typename V::F32 v) {
  if (n >= V::kLanes) return store<V>(out, v);
  T x[V::kLanes];
  store<V>(x, v);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i];
}

// 0, 1, 2, ...
template <class V>
static inline typename V::I32 lane_numbers() {
  typename V::I32 v{};
  for (int i = 0; i < V::kLanes; ++i) v[i] = i;
  return v;
}

// The first n lanes of v, `rest` in the others.
template <class V>
static inline typename V::F32 keep_first(int64_t n, typename V::F32 v, float rest) {
  if (n >= V::kLanes) return v;
  return lane_numbers<V>() < static_cast<int32_t>(n) ? v : set<V>(rest);
}

// ---- reductions in one fixed order: halves are folded until one lane is left ----

template <class V>
static inline float sum_lanes(typename V::F32 v) {
  float x[V::kLanes];
  store<V>(x, v);
  for (int width = V::kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) x[i] += x[i + width];
  return x[0];
}

// NaN is passed over, unless there is nothing else.
template <class V>
static inline float max_lanes(typename V::F32 v) {
  float x[V::kLanes];
  store<V>(x, v);
  float most = x[0];
  for (int i = 1; i < V::kLanes; ++i) most = x[i] > most || most != most ? x[i] : most;
  return most;
}

// ---- functions ----

template <class V>
static inline typename V::F32 abs_lanes(typename V::F32 v) {
  return as_f32<V>(as_bits<V>(v) & 0x7fffffffu);
}

// exp(x) for x <= 0, within 2 ulp; exp(0) is 1, NaN stays NaN, and below -104 (-inf too) the result is exactly 0.
// x = n ln2 + r with |r| <= ln2 / 2, and 1 + r + r^2 q(r) for e^r: q is the minimax polynomial of degree 4 for the
// relative error of the whole, 3.1e-9.
template <class V>
static inline typename V::F32 exp_lanes(typename V::F32 x) {
  using F32 = typename V::F32;
  using U32 = typename V::U32;
  using I32 = typename V::I32;
  const F32 low = x < -104.0f ? set<V>(-104.0f) : x;
  // Beside 1.5 * 2^23 the unit is 1: the adder rounds to the nearest integer, and the bits count it.
  constexpr float kMagic = 0x1.8p23f;
  const F32 shifted = V::fmadd(low, set<V>(0x1.715476p+0f), set<V>(kMagic));
  const F32 n = shifted - kMagic;
  const F32 r = V::fmadd(n, set<V>(0x1.05c61p-29f), V::fmadd(n, set<V>(-0x1.62e43p-1f), low));
  F32 q = set<V>(0x1.6a2352p-10f);
  q = V::fmadd(q, r, set<V>(0x1.123a6cp-7f));
  q = V::fmadd(q, r, set<V>(0x1.5558f4p-5f));
  q = V::fmadd(q, r, set<V>(0x1.555490p-3f));
  q = V::fmadd(q, r, set<V>(0x1.fffffcp-2f));
  const F32 y = V::fmadd(q, r * r, r) + 1.0f;
  // 2^n in two steps, each of them a normal number, so that only the last product can round.
  const U32 bits = as_bits<V>(shifted) - 0x4b400000u;
  const U32 half = reinterpret_cast<U32>(reinterpret_cast<I32>(bits) >> 1);
  return y * as_f32<V>((half + 127u) << 23) * as_f32<V>((bits - half + 127u) << 23);
}

template <class V>
static inline float exp_one(float x) {
  return exp_lanes<V>(set<V>(x))[0];
}

}  // namespace swiftkv::cpu::simd
