// Packing is a blocked transpose of 32-bit units: one f32, or a pair of 16-bit elements adjacent along k.
#include "backends/cpu/pack.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/pack_quantized.h"
#include "backends/cpu/quantized.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu {

namespace {

// 16 x 16 units: 64 bytes of every source row and of every destination row, 1 KiB in all.
constexpr int64_t kTile = 16;

template <class Dst>
constexpr int64_t kUnitElements = 4 / static_cast<int64_t>(sizeof(Dst));

// Converts `count` elements, count <= kTile * kUnitElements, to units; what is missing of the last unit is zero.
// The source may lie at any byte offset.
template <class Src, class Dst>
void convert_units(const std::byte* src, int64_t count, uint32_t* units) {
  constexpr int64_t kMax = kTile * kUnitElements<Dst>;
  Dst converted[kMax];
  if constexpr (std::is_same_v<Src, Dst>) {
    std::memcpy(converted, src, static_cast<size_t>(count) * sizeof(Src));
  } else {
    Src raw[kMax];
    std::memcpy(raw, src, static_cast<size_t>(count) * sizeof(Src));
    for (int64_t i = 0; i < count; ++i) converted[i] = from_f32<Dst>(to_f32(raw[i]));
  }
  if (count % kUnitElements<Dst> != 0) converted[count] = Dst{};
  const int64_t padded = (count + kUnitElements<Dst> - 1) / kUnitElements<Dst>;
  std::memcpy(units, converted, static_cast<size_t>(padded) * 4);
}

// dst points at unit (first unit, first lane) of a panel; units are kPanel apart.
void store_transposed(const uint32_t (&tile)[kTile][kTile], int64_t rows, int64_t units, uint32_t* dst) {
  if (rows == kTile) {
    for (int64_t u = 0; u < units; ++u)
      for (int64_t r = 0; r < kTile; ++r) dst[u * kPanel + r] = tile[r][u];
  } else {
    for (int64_t u = 0; u < units; ++u)
      for (int64_t r = 0; r < rows; ++r) dst[u * kPanel + r] = tile[r][u];
  }
}

template <class Src, class Dst>
void pack_panels(const PackParams& p) {
  constexpr int64_t kElements = kUnitElements<Dst>;
  const int64_t k = p.dst.k, units = (k + kElements - 1) / kElements;
  const auto* src = static_cast<const std::byte*>(p.src);
  auto* dst = static_cast<uint32_t*>(const_cast<void*>(p.dst.data));
  uint32_t tile[kTile][kTile];
  for (int64_t row = 0; row < p.rows;) {
    const int64_t out = p.dst_row + row, lane = out % kPanel;
    const int64_t count = std::min({p.rows - row, kTile, kPanel - lane});
    uint32_t* panel = dst + (out / kPanel) * units * kPanel + lane;
    for (int64_t u = 0; u < units; u += kTile) {
      const int64_t num_units = std::min(kTile, units - u);
      const int64_t elements = std::min(k - u * kElements, num_units * kElements);
      for (int64_t r = 0; r < count; ++r)
        convert_units<Src, Dst>(src + ((row + r) * k + u * kElements) * static_cast<int64_t>(sizeof(Src)), elements,
                                tile[r]);
      store_transposed(tile, count, num_units, panel + u * kPanel);
    }
    row += count;
  }
}

template <class Src, class Dst>
void pack_row_major(const PackParams& p) {
  const auto* src = static_cast<const std::byte*>(p.src);
  auto* dst = static_cast<Dst*>(const_cast<void*>(p.dst.data)) + p.dst_row * p.dst.k;
  const int64_t count = p.rows * p.dst.k;
  if constexpr (std::is_same_v<Src, Dst>) {
    if (count > 0) std::memcpy(dst, src, static_cast<size_t>(count) * sizeof(Src));
  } else {
    for (int64_t i = 0; i < count; ++i) {
      Src x;
      std::memcpy(&x, src + i * static_cast<int64_t>(sizeof(Src)), sizeof x);
      dst[i] = from_f32<Dst>(to_f32(x));
    }
  }
}

template <class Src>
Status pack_from(const PackParams& p) {
  return visit_float(p.dst.dtype, "the matrix dtype", [&]<class Dst>(Dst) {
    if (p.dst.layout == Layout::panels)
      pack_panels<Src, Dst>(p);
    else
      pack_row_major<Src, Dst>(p);
    return Status{};
  });
}

}  // namespace

size_t matrix_bytes(DType dtype, Layout layout, int64_t n, int64_t k) {
  const auto element = static_cast<size_t>(dtype_bytes(dtype));
  if ((dtype == DType::int8 || dtype == DType::int4) && layout == Layout::row_major) return 0;
  if (layout == Layout::row_major) return static_cast<size_t>(n) * static_cast<size_t>(k) * element;
  const size_t padded_n = static_cast<size_t>((n + kPanel - 1) / kPanel) * kPanel;
  switch (dtype) {
    case DType::f32: return padded_n * static_cast<size_t>(k) * element;
    case DType::bf16:
    case DType::f16: return padded_n * static_cast<size_t>((k + 1) / 2) * 2 * element;
    case DType::fp8_e4m3:
    case DType::int8:
      return padded_n / kPanel * static_cast<size_t>(quantized_panel_bytes(dtype, k)) + padded_n * sizeof(float);
    case DType::int4: return padded_n / kPanel * static_cast<size_t>(quantized_panel_bytes(dtype, k));
    default: return 0;
  }
}

Status pack(const PackParams& p) {
  if (p.rows < 0 || p.dst_row < 0 || p.dst_row > p.dst.n - p.rows)
    return fail(Code::invalid_argument, "Expected rows of the matrix' %lld but received %lld rows from %lld on",
                static_cast<long long>(p.dst.n), static_cast<long long>(p.rows), static_cast<long long>(p.dst_row));
  if (is_quantized(p.dst.dtype) && p.dst.layout == Layout::panels) return pack_quantized(p);
  if (p.target != PackTarget::values)
    return fail(Code::unsupported, "A matrix of %s has no scales", dtype_name(p.dst.dtype));
  switch (p.src_dtype) {
    case DType::f32: return pack_from<float>(p);
    case DType::bf16: return pack_from<bf16>(p);
    case DType::f16: return pack_from<f16>(p);
    default:
      return fail(Code::unsupported, "Expected f32, bf16 or f16 for a weight's source but received %s",
                  dtype_name(p.src_dtype));
  }
}

Status unpack(const Matrix& m, float* out) {
  if (is_quantized(m.dtype) && m.layout == Layout::panels) {
    unpack_quantized(m, out);
    return {};
  }
  return visit_float(m.dtype, "the matrix dtype", [&]<class T>(T) {
    const T* w = static_cast<const T*>(m.data);
    for (int64_t row = 0; row < m.n; ++row)
      for (int64_t col = 0; col < m.k; ++col) out[row * m.k + col] = to_f32(w[matrix_index(m, row, col)]);
    return Status{};
  });
}

}  // namespace swiftkv::cpu
