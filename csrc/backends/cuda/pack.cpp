// Rows are padded and, where the matrix is quantized, coded: one row after the other, whatever the layout of the cpu
// is.
#include "backends/cuda/pack.h"

#include <algorithm>
#include <cstring>

#include "core/weight_codes.h"

namespace swiftkv::cuda {
namespace {

// Elements converted at a time: a whole number of groups and of fp8 units, small enough for the first-level cache.
constexpr int64_t kChunk = 1024;

// The source may lie at any byte offset.
template <class Src>
void widen(const std::byte* src, int64_t count, float* out) {
  Src raw[kChunk];
  std::memcpy(raw, src, static_cast<size_t>(count) * sizeof(Src));
  for (int64_t i = 0; i < count; ++i) out[i] = to_f32(raw[i]);
}

template <class Src, class Dst>
void convert_row(const std::byte* src, int64_t k, int64_t padded, std::byte* out) {
  auto* dst = reinterpret_cast<Dst*>(out);
  if constexpr (std::is_same_v<Src, Dst>) {
    std::memcpy(dst, src, static_cast<size_t>(k) * sizeof(Dst));
  } else {
    float x[kChunk];
    for (int64_t at = 0; at < k; at += kChunk) {
      const int64_t count = std::min(kChunk, k - at);
      widen<Src>(src + at * static_cast<int64_t>(sizeof(Src)), count, x);
      for (int64_t i = 0; i < count; ++i) dst[at + i] = from_f32<Dst>(x[i]);
    }
  }
  std::fill(dst + k, dst + padded, Dst{});
}

void place_fp8(const uint8_t* codes, int64_t k, uint8_t* out) {
  std::memset(out, 0, static_cast<size_t>(pad_k(k)));
  for (int64_t i = 0; i < k; ++i) out[fp8_place(i)] = codes[i];
}

template <class Src>
void quantize_row(const std::byte* src, DType dtype, int64_t k, uint8_t* out, std::byte* scale) {
  float x[kChunk];
  const auto read = [&](int64_t at) {
    const int64_t count = std::min(kChunk, k - at);
    widen<Src>(src + at * static_cast<int64_t>(sizeof(Src)), count, x);
    return count;
  };
  uint32_t most = 0;
  for (int64_t at = 0; at < k; at += kChunk) most = std::max(most, max_magnitude(x, read(at)));
  const RowScale s = dtype == DType::fp8_e4m3 ? fp8_row_scale(most) : int8_row_scale(most);
  std::memcpy(scale, &s.scale, sizeof s.scale);
  std::memset(out, 0, static_cast<size_t>(pad_k(k)));
  uint8_t codes[kChunk];
  for (int64_t at = 0; at < k; at += kChunk) {
    const int64_t count = read(at);
    if (dtype == DType::fp8_e4m3) {
      fp8_codes(x, count, s.factor, codes);
      for (int64_t i = 0; i < count; ++i) out[at + fp8_place(i)] = codes[i];
    } else {
      int8_codes(x, count, s.factor, codes);
      for (int64_t i = 0; i < count; ++i) out[at + i] = static_cast<uint8_t>(codes[i] - kInt8Zero);
    }
  }
}

template <class Src>
void quantize_int4_row(const std::byte* src, int64_t k, uint8_t* out, std::byte* scales) {
  for (int64_t group = 0; group < pad_k(k) / kQuantGroup; ++group) {
    float x[kQuantGroup] = {};
    const int64_t at = group * kQuantGroup, count = std::clamp<int64_t>(k - at, 0, kQuantGroup);
    if (count > 0) widen<Src>(src + at * static_cast<int64_t>(sizeof(Src)), count, x);
    uint32_t codes[kQuantGroup];
    const f16 scale = int4_group(x, codes);
    std::memcpy(scales + group * 2, &scale, sizeof scale);
    for (int64_t j = 0; j < kQuantGroup / 2; ++j)
      out[at / 2 + j] = static_cast<uint8_t>(codes[2 * j] | codes[2 * j + 1] << 4);
  }
}

template <class Src>
void pack_row(const PackParams& p, const std::byte* src, std::byte* values, std::byte* scales) {
  const int64_t k = p.dst.k, padded = p.dst.layout == Layout::panels ? pad_k(k) : k;
  auto* codes = reinterpret_cast<uint8_t*>(values);
  switch (p.dst.dtype) {
    case DType::f32: return convert_row<Src, float>(src, k, padded, values);
    case DType::bf16: return convert_row<Src, bf16>(src, k, padded, values);
    case DType::f16: return convert_row<Src, f16>(src, k, padded, values);
    case DType::int4: return quantize_int4_row<Src>(src, k, codes, scales);
    default: return quantize_row<Src>(src, p.dst.dtype, k, codes, scales);
  }
}

template <class Src>
void pack_rows_of(const PackParams& p, int64_t first, int64_t count, std::byte* values, std::byte* scales) {
  const auto* src = static_cast<const std::byte*>(p.src);
  const RowPlaces places(p.dst);
  if (p.target == PackTarget::scales) {
    for (int64_t i = 0; i < count; ++i) {
      float scale;
      widen<Src>(src + (p.repeat ? 0 : first + i) * static_cast<int64_t>(sizeof(Src)), 1, &scale);
      std::memcpy(scales + i * 4, &scale, sizeof scale);
    }
    return;
  }
  const int64_t row_bytes = p.dst.k * static_cast<int64_t>(sizeof(Src));
  for (int64_t i = 0; i < count; ++i) {
    pack_row<Src>(p, src + (first + i) * row_bytes, values + static_cast<size_t>(i) * places.values,
                  scales + static_cast<size_t>(i) * places.scales);
  }
}

bool is_float(DType t) {
  return t == DType::f32 || t == DType::bf16 || t == DType::f16;
}

void unpack_row(const Matrix& w, const std::byte* values, const std::byte* scales, float* out) {
  const auto* codes = reinterpret_cast<const uint8_t*>(values);
  float scale = 0;
  if (w.dtype == DType::fp8_e4m3 || w.dtype == DType::int8) std::memcpy(&scale, scales, sizeof scale);
  for (int64_t i = 0; i < w.k; ++i) {
    switch (w.dtype) {
      case DType::f32: out[i] = reinterpret_cast<const float*>(values)[i]; break;
      case DType::bf16: out[i] = to_f32(reinterpret_cast<const bf16*>(values)[i]); break;
      case DType::f16: out[i] = to_f32(reinterpret_cast<const f16*>(values)[i]); break;
      case DType::fp8_e4m3: out[i] = to_f32(fp8_e4m3{codes[fp8_place(i)]}) * scale; break;
      case DType::int8: out[i] = static_cast<float>(static_cast<int8_t>(codes[i])) * scale; break;
      default: {
        f16 group;
        std::memcpy(&group, scales + i / kQuantGroup * 2, sizeof group);
        const int32_t both = codes[i / 2];
        out[i] = static_cast<float>((i % 2 == 0 ? both & 15 : both >> 4) - kInt4Zero) * to_f32(group);
      }
    }
  }
}

}  // namespace

size_t matrix_bytes(DType dtype, Layout layout, int64_t n, int64_t k) {
  if (layout == Layout::row_major) {
    if (dtype == DType::int8 || dtype == DType::int4) return 0;
    return static_cast<size_t>(n) * static_cast<size_t>(k) * static_cast<size_t>(dtype_bytes(dtype));
  }
  if (!is_float(dtype) && !is_quantized(dtype)) return 0;
  return static_cast<size_t>(matrix_value_bytes(dtype, n, k) + matrix_scale_bytes(dtype, n, k));
}

RowPlaces::RowPlaces(const Matrix& w)
    : values(matrix_bytes(w.dtype, Layout::row_major, 1, w.k)), scales(0), scales_offset(0) {
  if (w.layout == Layout::row_major) return;
  values = static_cast<size_t>(matrix_value_bytes(w.dtype, 1, w.k));
  scales = static_cast<size_t>(matrix_scale_bytes(w.dtype, 1, w.k));
  scales_offset = static_cast<size_t>(w.n) * values;
}

Status check_pack(const PackParams& p) {
  if (p.rows < 0 || p.dst_row < 0 || p.dst_row > p.dst.n - p.rows)
    return fail(Code::invalid_argument, "Expected rows of the matrix' %lld but received %lld rows from %lld on",
                static_cast<long long>(p.dst.n), static_cast<long long>(p.rows), static_cast<long long>(p.dst_row));
  const bool quantized = is_quantized(p.dst.dtype) && p.dst.layout == Layout::panels;
  if (!is_float(p.dst.dtype) && !quantized)
    return fail(Code::unsupported, "Expected f32, bf16, f16 or panels of codes for the matrix but received %s",
                dtype_name(p.dst.dtype));
  if (p.target == PackTarget::scales && p.dst.dtype != DType::fp8_e4m3)
    return fail(Code::unsupported, "Scales are packed into matrices of fp8_e4m3 only, this one is %s",
                dtype_name(p.dst.dtype));
  if (p.src_dtype == DType::fp8_e4m3 && (p.dst.dtype != DType::fp8_e4m3 || p.target != PackTarget::values))
    return fail(Code::unsupported, "Codes of fp8_e4m3 fit a matrix of fp8_e4m3 only, this one is %s",
                dtype_name(p.dst.dtype));
  if (!is_float(p.src_dtype) && p.src_dtype != DType::fp8_e4m3)
    return fail(Code::unsupported, "Expected f32, bf16, f16 or fp8_e4m3 for a weight's source but received %s",
                dtype_name(p.src_dtype));
  return {};
}

void pack_rows(const PackParams& p, int64_t first, int64_t count, std::byte* values, std::byte* scales) {
  switch (p.src_dtype) {
    case DType::bf16: return pack_rows_of<bf16>(p, first, count, values, scales);
    case DType::f16: return pack_rows_of<f16>(p, first, count, values, scales);
    case DType::fp8_e4m3: {
      const auto* codes = static_cast<const uint8_t*>(p.src) + first * p.dst.k;
      const auto row = static_cast<int64_t>(RowPlaces(p.dst).values);
      for (int64_t i = 0; i < count; ++i)
        place_fp8(codes + i * p.dst.k, p.dst.k, reinterpret_cast<uint8_t*>(values) + i * row);
      return;
    }
    default: return pack_rows_of<float>(p, first, count, values, scales);
  }
}

Status pack_host(const PackParams& p) {
  if (const Status s = check_pack(p); !s.ok()) return s;
  const RowPlaces places(p.dst);
  auto* data = static_cast<std::byte*>(const_cast<void*>(p.dst.data));
  const auto row = static_cast<size_t>(p.dst_row);
  pack_rows(p, 0, p.rows, data + row * places.values, data + places.scales_offset + row * places.scales);
  return {};
}

Status unpack_host(const Matrix& w, float* out) {
  const RowPlaces places(w);
  const auto* data = static_cast<const std::byte*>(w.data);
  for (int64_t row = 0; row < w.n; ++row) {
    unpack_row(w, data + static_cast<size_t>(row) * places.values,
               data + places.scales_offset + static_cast<size_t>(row) * places.scales, out + row * w.k);
  }
  return {};
}

}  // namespace swiftkv::cuda
