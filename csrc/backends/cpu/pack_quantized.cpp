// Quantizes rows of floats and puts codes and scales into their places. Plain loops over arrays, so that the compiler
// vectorises them for any machine.
#include "backends/cpu/pack_quantized.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backends/cpu/quantized.h"

namespace swiftkv::cpu {

namespace {

constexpr uint32_t kInfinity = 0x7f800000u;

// Elements that are converted at a time: a whole number of groups, small enough for the first-level cache.
constexpr int64_t kChunk = 1024;

template <class Src>
void widen(const std::byte* src, int64_t count, float* out) {
  Src raw[kChunk];
  std::memcpy(raw, src, static_cast<size_t>(count) * sizeof(Src));
  for (int64_t i = 0; i < count; ++i) out[i] = to_f32(raw[i]);
}

// Bits of the largest magnitude. As integers they order like the numbers, with infinity and NaN above all.
uint32_t max_magnitude(const float* x, int64_t count) {
  uint32_t most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu);
  return most;
}

// round(x), ties to even, for |x| below 2^22: beside 1.5 * 2^23 the unit is 1.
int32_t round_even(float x) {
  return static_cast<int32_t>(std::bit_cast<uint32_t>(x + 0x1.8p23f) - 0x4b400000u);
}

// to_fp8_e4m3 without branches.
uint8_t encode(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x), magnitude = u & 0x7fffffffu;
  const uint32_t rounded = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1u) - 0x3c000000u) >> 20;
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 16384.0f) - 0x46800000u;
  uint32_t code = magnitude < 0x3c800000u ? small : rounded;
  code = magnitude >= 0x43e00000u ? 0x7eu : code;
  code = magnitude > kInfinity ? 0x7fu : code;
  return static_cast<uint8_t>(code | (u >> 24 & 0x80u));
}

// The codes' home: a row's panel and its lane there.
struct Row {
  Row(const Matrix& w, int64_t row)
      : panel(static_cast<std::byte*>(const_cast<void*>(w.data)) + row / kPanel * quantized_panel_bytes(w.dtype, w.k)),
        lane(row % kPanel) {}

  uint8_t* fp8_pair(int64_t step) const {
    return reinterpret_cast<uint8_t*>(panel + step * kPanel * 2 + fp8_place(lane, 0));
  }
  uint8_t* int8_four(int64_t step) const { return reinterpret_cast<uint8_t*>(panel + (step * kPanel + lane) * 4); }
  f16* int4_scale(int64_t group) const { return reinterpret_cast<f16*>(panel + group * kInt4GroupBytes) + lane; }
  uint8_t* int4_four(int64_t group, int64_t step) const {
    return reinterpret_cast<uint8_t*>(panel + group * kInt4GroupBytes + kInt4ScaleBytes + (step * kPanel + lane) * 4);
  }

  std::byte* panel;
  int64_t lane;
};

void store_fp8(const Row& row, int64_t first, const uint8_t* codes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) row.fp8_pair((first + i) / 2)[(first + i) % 2] = codes[i];
}

void store_int8(const Row& row, int64_t first, const uint8_t* codes, int64_t count) {
  int64_t i = 0;
  for (; i + 4 <= count; i += 4) std::memcpy(row.int8_four((first + i) / 4), codes + i, 4);
  for (; i < count; ++i) row.int8_four((first + i) / 4)[i % 4] = codes[i];
}

void store_int4(const Row& row, int64_t group, const uint8_t* codes) {
  for (int64_t s = 0; s < 4; ++s) {
    uint8_t packed[4];
    for (int64_t i = 0; i < 4; ++i) packed[i] = static_cast<uint8_t>(codes[8 * s + i] | codes[8 * s + 4 + i] << 4);
    std::memcpy(row.int4_four(group, s), packed, sizeof packed);
  }
}

// One scale per group: the value of largest magnitude becomes -8, the end of the range that has no counterpart.
void quantize_int4_group(const Row& row, int64_t group, const float* x, int64_t count) {
  float padded[kQuantGroup] = {};
  std::copy(x, x + count, padded);
  float extreme = 0.0f;
  for (float v : padded) extreme = std::fabs(v) > std::fabs(extreme) ? v : extreme;
  constexpr float kMaxF16 = 65504.0f;
  f16 scale = to_f16(std::clamp(extreme / -8.0f, -kMaxF16, kMaxF16));
  const float step = to_f32(scale), inverse = step == 0.0f ? 0.0f : 1.0f / step;
  uint8_t codes[kQuantGroup];
  for (int64_t i = 0; i < kQuantGroup; ++i) {
    // Comparisons that NaN fails give the lower end.
    const float q = padded[i] * inverse;
    codes[i] = static_cast<uint8_t>(round_even(q > -8.0f ? std::min(q, 7.0f) : -8.0f) + kInt4Zero);
  }
  if (max_magnitude(padded, kQuantGroup) >= kInfinity) scale = to_f16(std::numeric_limits<float>::quiet_NaN());
  std::memcpy(row.int4_scale(group), &scale, sizeof scale);
  store_int4(row, group, codes);
}

template <class Src>
void quantize_row(const std::byte* src, const Matrix& w, int64_t index) {
  const Row row(w, index);
  const int64_t k = w.k;
  float x[kChunk];
  const auto for_chunks = [&](auto&& f) {
    for (int64_t at = 0; at < k; at += kChunk) {
      const int64_t count = std::min(kChunk, k - at);
      widen<Src>(src + at * static_cast<int64_t>(sizeof(Src)), count, x);
      f(at, count);
    }
  };
  if (w.dtype == DType::int4) {
    for_chunks([&](int64_t at, int64_t count) {
      for (int64_t i = 0; i < count; i += kQuantGroup)
        quantize_int4_group(row, (at + i) / kQuantGroup, x + i, std::min(kQuantGroup, count - i));
    });
    return;
  }
  uint32_t most = 0;
  for_chunks([&](int64_t, int64_t count) { most = std::max(most, max_magnitude(x, count)); });
  uint8_t codes[kChunk];
  if (w.dtype == DType::fp8_e4m3) {
    const float scale =
        most >= kInfinity ? std::numeric_limits<float>::quiet_NaN() : fp8_scale(std::bit_cast<float>(most));
    output_scales(w)[index] = scale;
    for_chunks([&](int64_t at, int64_t count) {
      for (int64_t i = 0; i < count; ++i) codes[i] = encode(x[i] / scale);
      store_fp8(row, at, codes, count);
    });
    return;
  }
  const float largest = std::bit_cast<float>(most);
  const bool zero = largest < kQuantLeast;
  const float inverse = zero ? 0.0f : 127.0f / largest;
  output_scales(w)[index] = most >= kInfinity ? std::numeric_limits<float>::quiet_NaN()
                            : zero            ? 0.0f
                                              : largest / 127.0f;
  for_chunks([&](int64_t at, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const float q = x[i] * inverse;
      codes[i] = static_cast<uint8_t>(round_even(q > -127.0f ? std::min(q, 127.0f) : -127.0f) + kInt8Zero);
    }
    store_int8(row, at, codes, count);
  });
}

template <class Src>
void pack_scales(const PackParams& p) {
  float* scales = output_scales(p.dst) + p.dst_row;
  const auto* src = static_cast<const std::byte*>(p.src);
  for (int64_t i = 0; i < p.rows; ++i)
    widen<Src>(src + (p.repeat ? 0 : i) * static_cast<int64_t>(sizeof(Src)), 1, scales + i);
}

template <class Src>
Status pack_from(const PackParams& p) {
  const int64_t row_bytes = p.dst.k * static_cast<int64_t>(sizeof(Src));
  if (p.target == PackTarget::scales)
    pack_scales<Src>(p);
  else
    for (int64_t i = 0; i < p.rows; ++i)
      quantize_row<Src>(static_cast<const std::byte*>(p.src) + i * row_bytes, p.dst, p.dst_row + i);
  return {};
}

Status pack_codes(const PackParams& p) {
  if (p.dst.dtype != DType::fp8_e4m3 || p.target != PackTarget::values)
    return fail(Code::unsupported, "Codes of fp8_e4m3 fit a matrix of fp8_e4m3 only, this one is %s",
                dtype_name(p.dst.dtype));
  for (int64_t i = 0; i < p.rows; ++i)
    store_fp8(Row(p.dst, p.dst_row + i), 0, static_cast<const uint8_t*>(p.src) + i * p.dst.k, p.dst.k);
  return {};
}

}  // namespace

Status pack_quantized(const PackParams& p) {
  if (p.target == PackTarget::scales && p.dst.dtype != DType::fp8_e4m3)
    return fail(Code::unsupported, "Scales are packed into matrices of fp8_e4m3 only, this one is %s",
                dtype_name(p.dst.dtype));
  switch (p.src_dtype) {
    case DType::f32: return pack_from<float>(p);
    case DType::bf16: return pack_from<bf16>(p);
    case DType::f16: return pack_from<f16>(p);
    case DType::fp8_e4m3: return pack_codes(p);
    default:
      return fail(Code::unsupported, "Expected f32, bf16, f16 or fp8_e4m3 for a weight's source but received %s",
                  dtype_name(p.src_dtype));
  }
}

void read_quantized_row(const Matrix& w, int64_t index, float* out) {
  const Row row(w, index);
  if (w.dtype == DType::int4) {
    for (int64_t i = 0; i < w.k; ++i) {
      const int64_t group = i / kQuantGroup, at = i % kQuantGroup;
      const int32_t both = row.int4_four(group, at / 8)[at % 4];
      f16 scale;
      std::memcpy(&scale, row.int4_scale(group), sizeof scale);
      out[i] = static_cast<float>((at % 8 < 4 ? both & 15 : both >> 4) - kInt4Zero) * to_f32(scale);
    }
    return;
  }
  const float scale = output_scales(w)[index];
  for (int64_t i = 0; i < w.k; ++i) {
    const float q = w.dtype == DType::fp8_e4m3 ? to_f32(fp8_e4m3{row.fp8_pair(i / 2)[i % 2]})
                                               : static_cast<float>(int32_t{row.int8_four(i / 4)[i % 4]} - kInt8Zero);
    out[i] = q * scale;
  }
}

void unpack_quantized(const Matrix& w, float* out) {
  for (int64_t row = 0; row < w.n; ++row) read_quantized_row(w, row, out + row * w.k);
}

}  // namespace swiftkv::cpu
