// Quantizes rows of floats and puts codes and scales into their places.
#include "backends/cpu/pack_quantized.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/quantized.h"
#include "core/weight_codes.h"

namespace swiftkv::cpu {

namespace {

// Elements that are converted at a time: a whole number of groups, small enough for the first-level cache.
constexpr int64_t kChunk = 1024;

template <class Src>
void widen(const std::byte* src, int64_t count, float* out) {
  Src raw[kChunk];
  std::memcpy(raw, src, static_cast<size_t>(count) * sizeof(Src));
  for (int64_t i = 0; i < count; ++i) out[i] = to_f32(raw[i]);
}

// The codes' home: a row's panel and its lane there.
struct Row {
  Row(std::byte* p, int64_t l) : panel(p), lane(l) {}
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

// Rows that are quantized together: 16 outputs of one panel, whose codes of the same k share cache lines.
constexpr int64_t kBlockRows = 16;

// Codes of one block and chunk, row by row as they are computed; stored unit by unit, which fills whole lines.
struct Block {
  uint8_t codes[kBlockRows][kChunk];             // int4: four bytes of each eight elements
  f16 scales[kBlockRows][kChunk / kQuantGroup];  // int4
};

// The first `bytes` bytes of every row's codes: unit u of row r goes to base[r] + offset(u).
template <int64_t kUnitBytes, class Offset>
void store_units(const Block& block, int64_t rows, int64_t bytes, uint8_t* const (&base)[kBlockRows],
                 const Offset& offset) {
  const int64_t units = bytes / kUnitBytes;
  for (int64_t u = 0; u < units; ++u) {
    const int64_t at = offset(u);
    for (int64_t r = 0; r < rows; ++r) std::memcpy(base[r] + at, block.codes[r] + u * kUnitBytes, kUnitBytes);
  }
  // The last unit of a row may be short.
  const auto rest = static_cast<size_t>(bytes - units * kUnitBytes);
  for (int64_t r = 0; r < rows && rest > 0; ++r)
    std::memcpy(base[r] + offset(units), block.codes[r] + units * kUnitBytes, rest);
}

// Elements [at, at + count) of `rows` rows whose first is `row`; `at` is a multiple of the unit's elements.
void store_block(const Block& block, const Matrix& w, int64_t row, int64_t rows, int64_t at, int64_t count) {
  const Row first(w, row);
  const auto lane = [&](int64_t r) { return Row{first.panel, first.lane + r}; };
  uint8_t* base[kBlockRows];
  if (w.dtype == DType::fp8_e4m3) {
    for (int64_t r = 0; r < rows; ++r) base[r] = lane(r).fp8_pair(at / 2);
    store_units<2>(block, rows, count, base, [](int64_t u) { return u * kPanel * 2; });
  } else if (w.dtype == DType::int8) {
    for (int64_t r = 0; r < rows; ++r) base[r] = lane(r).int8_four(at / 4);
    store_units<4>(block, rows, count, base, [](int64_t u) { return u * kPanel * 4; });
  } else {
    const int64_t groups = (count + kQuantGroup - 1) / kQuantGroup, group = at / kQuantGroup;
    for (int64_t r = 0; r < rows; ++r) base[r] = lane(r).int4_four(group, 0);
    store_units<4>(block, rows, groups * 16, base,
                   [](int64_t u) { return u / 4 * kInt4GroupBytes + u % 4 * kPanel * 4; });
    for (int64_t g = 0; g < groups; ++g)
      for (int64_t r = 0; r < rows; ++r) std::memcpy(lane(r).int4_scale(group + g), &block.scales[r][g], 2);
  }
}

// One group's bytes: byte i of step s has the code of k = 8 s + i below that of 8 s + 4 + i.
f16 quantize_int4_group(const float (&x)[kQuantGroup], uint8_t* bytes) {
  uint32_t codes[kQuantGroup];
  const f16 scale = int4_group(x, codes);
  for (int64_t s = 0; s < 4; ++s) {
    const uint32_t* c = codes + 8 * s;
    const uint32_t low = c[0] | c[1] << 8 | c[2] << 16 | c[3] << 24, high = c[4] | c[5] << 8 | c[6] << 16 | c[7] << 24;
    const uint32_t packed = low | high << 4;
    std::memcpy(bytes + 4 * s, &packed, sizeof packed);
  }
  return scale;
}

// What elements of a row are divided by (fp8) or multiplied with (int8) to become codes; writes the scale.
float divisor_of_row(const Matrix& w, int64_t row, uint32_t most) {
  const RowScale s = w.dtype == DType::fp8_e4m3 ? fp8_row_scale(most) : int8_row_scale(most);
  output_scales(w)[row] = s.scale;
  return s.factor;
}

template <class Src>
void quantize_block(const std::byte* src, const Matrix& w, int64_t row, int64_t rows) {
  const int64_t k = w.k;
  float x[kChunk];
  const auto read = [&](int64_t r, int64_t at, int64_t count) {
    widen<Src>(src + (r * k + at) * static_cast<int64_t>(sizeof(Src)), count, x);
  };
  float divisor[kBlockRows] = {};
  if (w.dtype != DType::int4)
    for (int64_t r = 0; r < rows; ++r) {
      uint32_t most = 0;
      for (int64_t at = 0; at < k; at += kChunk) {
        const int64_t count = std::min(kChunk, k - at);
        read(r, at, count);
        most = std::max(most, max_magnitude(x, count));
      }
      divisor[r] = divisor_of_row(w, row + r, most);
    }
  Block block;
  for (int64_t at = 0; at < k; at += kChunk) {
    const int64_t count = std::min(kChunk, k - at);
    for (int64_t r = 0; r < rows; ++r) {
      read(r, at, count);
      if (w.dtype == DType::fp8_e4m3) {
        fp8_codes(x, count, divisor[r], block.codes[r]);
      } else if (w.dtype == DType::int8) {
        int8_codes(x, count, divisor[r], block.codes[r]);
      } else {
        std::fill(x + count, x + (count + kQuantGroup - 1) / kQuantGroup * kQuantGroup, 0.0f);
        for (int64_t g = 0; g * kQuantGroup < count; ++g)
          block.scales[r][g] = quantize_int4_group(reinterpret_cast<const float(&)[kQuantGroup]>(x[g * kQuantGroup]),
                                                   block.codes[r] + g * 16);
      }
    }
    store_block(block, w, row, rows, at, count);
  }
}

// Calls f(first row of the source, rows) for blocks that lie within 16 outputs of a panel.
template <class F>
void for_each_block(const PackParams& p, F&& f) {
  for (int64_t i = 0; i < p.rows;) {
    const int64_t count = std::min(p.rows - i, kBlockRows - (p.dst_row + i) % kBlockRows);
    f(i, count);
    i += count;
  }
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
    for_each_block(p, [&](int64_t i, int64_t rows) {
      quantize_block<Src>(static_cast<const std::byte*>(p.src) + i * row_bytes, p.dst, p.dst_row + i, rows);
    });
  return {};
}

Status pack_codes(const PackParams& p) {
  if (p.dst.dtype != DType::fp8_e4m3 || p.target != PackTarget::values)
    return fail(Code::unsupported, "Codes of fp8_e4m3 fit a matrix of fp8_e4m3 only, this one is %s",
                dtype_name(p.dst.dtype));
  const auto* codes = static_cast<const uint8_t*>(p.src);
  const int64_t k = p.dst.k;
  for_each_block(p, [&](int64_t i, int64_t rows) {
    Block block;
    for (int64_t at = 0; at < k; at += kChunk) {
      const int64_t count = std::min(kChunk, k - at);
      for (int64_t r = 0; r < rows; ++r)
        std::memcpy(block.codes[r], codes + (i + r) * k + at, static_cast<size_t>(count));
      store_block(block, p.dst, p.dst_row + i, rows, at, count);
    }
  });
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
