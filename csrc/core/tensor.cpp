// Tensor creation, bounds and conversions.
#include "core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace swiftkv {
namespace {

constexpr int64_t kMaxDim = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxBytes = int64_t{1} << 46;
constexpr int64_t kChunk = 16384;  // elements converted at a time, so that conversions need no memory of note

bool is_float(DType t) {
  return t == DType::f32 || t == DType::bf16 || t == DType::f16;
}

bool is_weight(DType t) {
  return is_float(t) || is_quantized(t);
}

int64_t byte_size(const OpenDevice& device, DType dtype, const std::vector<int64_t>& shape, Layout layout) {
  if (shape.size() > kMaxRank) {
    throw Error(Code::invalid_argument,
                "Expected at most 4 dimensions for shape but received " + std::to_string(shape.size()));
  }
  int64_t bytes = dtype_bytes(dtype);
  for (int64_t size : shape) {
    if (size < 0 || size > kMaxDim) {
      throw Error(Code::invalid_argument,
                  "Expected 0 to 2147483647 for every dimension but received " + std::to_string(size));
    }
    if (__builtin_mul_overflow(bytes, size, &bytes) || bytes > kMaxBytes) {
      throw Error(Code::invalid_argument, "a tensor of this shape is larger than any machine's memory");
    }
  }
  if (layout == Layout::row_major) {
    if (dtype == DType::int8 || dtype == DType::int4) {
      throw Error(Code::invalid_argument, std::string("Expected layout panels for a tensor of ") + dtype_name(dtype) +
                                              " but received row_major");
    }
    return bytes;
  }
  if (shape.size() != 2 || !is_weight(dtype)) {
    throw Error(Code::invalid_argument,
                "Expected a matrix of f32, bf16, f16, fp8_e4m3, int8 or int4 for layout panels "
                "but received rank " +
                    std::to_string(shape.size()) + " of " + dtype_name(dtype));
  }
  return static_cast<int64_t>(device.table().matrix_bytes(dtype, layout, shape[0], shape[1]));
}

Matrix matrix_of(const Tensor& t) {
  return {.data = t.storage->data(),
          .dtype = t.view.dtype,
          .layout = t.view.layout,
          .n = t.view.shape[0].size,
          .k = t.view.shape[1].size};
}

void require_count(const Tensor& t, int64_t count) {
  if (count != t.view.count()) {
    throw Error(Code::invalid_argument, "Expected " + std::to_string(t.view.count()) +
                                            " values for the tensor but received " + std::to_string(count));
  }
}

template <class T>
T integral(float x) {
  const float rounded = std::nearbyint(x);
  // 2^31 is exact in f32, the largest i32 is not.
  constexpr float kEnd = std::is_same_v<T, int32_t> ? 2147483648.0f : 256.0f;
  constexpr float kBegin = std::is_same_v<T, int32_t> ? -2147483648.0f : 0.0f;
  if (!(rounded >= kBegin && rounded < kEnd)) {
    throw Error(Code::invalid_argument, "a value does not fit the tensor's integer dtype");
  }
  return static_cast<T>(rounded);
}

// Calls f(T{}) with the storage type of a dtype.
template <class F>
void visit_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16{});
    case DType::f16: return f(f16{});
    case DType::fp8_e4m3: return f(fp8_e4m3{});
    case DType::i32: return f(int32_t{});
    case DType::u8: return f(uint8_t{});
    case DType::int8:
    case DType::int4: break;  // never row-major
  }
  throw Error(Code::internal, std::string("no element type for ") + dtype_name(dtype));
}

}  // namespace

void Tensor::require_alive() const {
  if (storage == nullptr) throw Error(Code::disposed, "the tensor has been disposed of");
  storage->device()->require_open();
}

Tensor make_tensor(const std::shared_ptr<OpenDevice>& device, DType dtype, const std::vector<int64_t>& shape,
                   Layout layout, MemoryPart part) {
  const int64_t bytes = byte_size(*device, dtype, shape, layout);
  Tensor t;
  t.view.dtype = dtype;
  t.view.layout = layout;
  t.view.rank = static_cast<int32_t>(shape.size());
  for (size_t i = 0; i < shape.size(); ++i) t.view.shape[i].size = shape[i];
  t.storage = device->allocate(static_cast<size_t>(bytes), part);
  t.view.data = t.storage->data();
  return t;
}

static void require_bytes(const Tensor& t, size_t offset, size_t bytes) {
  t.require_alive();
  if (t.view.layout != Layout::row_major) {
    throw Error(Code::invalid_argument, "a tensor in panels has no raw bytes: use writeFloats and readFloats");
  }
  if (offset > t.storage->bytes() || bytes > t.storage->bytes() - offset) {
    throw Error(Code::invalid_argument, "Expected a range within the tensor's " + std::to_string(t.storage->bytes()) +
                                            " bytes but received " + std::to_string(bytes) + " bytes at offset " +
                                            std::to_string(offset));
  }
}

void write_bytes(const Tensor& t, size_t offset, const void* src, size_t bytes) {
  require_bytes(t, offset, bytes);
  if (bytes == 0) return;
  const OpenDevice& device = *t.storage->device();
  check(device.table().upload(device.handle(), t.storage->data() + offset, src, bytes));
}

void read_bytes(const Tensor& t, size_t offset, void* dst, size_t bytes) {
  require_bytes(t, offset, bytes);
  if (bytes == 0) return;
  const OpenDevice& device = *t.storage->device();
  check(device.table().download(device.handle(), dst, t.storage->data() + offset, bytes));
}

void write_floats(const Tensor& t, const float* values, int64_t count) {
  t.require_alive();
  require_count(t, count);
  if (count == 0) return;
  if (t.view.layout != Layout::row_major) return write_rows(t, 0, t.view.shape[0].size, values, DType::f32);
  visit_dtype(t.view.dtype, [&](auto tag) {
    using T = decltype(tag);
    std::vector<T> chunk(static_cast<size_t>(std::min(count, kChunk)));
    for (int64_t at = 0; at < count; at += kChunk) {
      const int64_t n = std::min(kChunk, count - at);
      for (int64_t i = 0; i < n; ++i) {
        if constexpr (std::is_integral_v<T>) {
          chunk[static_cast<size_t>(i)] = integral<T>(values[at + i]);
        } else {
          chunk[static_cast<size_t>(i)] = from_f32<T>(values[at + i]);
        }
      }
      write_bytes(t, static_cast<size_t>(at) * sizeof(T), chunk.data(), static_cast<size_t>(n) * sizeof(T));
    }
  });
}

void read_floats(const Tensor& t, float* values, int64_t count) {
  t.require_alive();
  require_count(t, count);
  if (count == 0) return;
  if (t.view.layout != Layout::row_major) {
    const OpenDevice& device = *t.storage->device();
    const Matrix matrix = matrix_of(t);
    return check(device.table().unpack(device.handle(), &matrix, values));
  }
  visit_dtype(t.view.dtype, [&](auto tag) {
    using T = decltype(tag);
    std::vector<T> chunk(static_cast<size_t>(std::min(count, kChunk)));
    for (int64_t at = 0; at < count; at += kChunk) {
      const int64_t n = std::min(kChunk, count - at);
      read_bytes(t, static_cast<size_t>(at) * sizeof(T), chunk.data(), static_cast<size_t>(n) * sizeof(T));
      for (int64_t i = 0; i < n; ++i) {
        if constexpr (std::is_integral_v<T>) {
          values[at + i] = static_cast<float>(chunk[static_cast<size_t>(i)]);
        } else {
          values[at + i] = to_f32(chunk[static_cast<size_t>(i)]);
        }
      }
    }
  });
}

void write_rows(const Tensor& t, int64_t row, int64_t rows, const void* src, DType src_dtype) {
  t.require_alive();
  const bool quantized_panels = is_quantized(t.view.dtype) && t.view.layout == Layout::panels;
  if (t.view.rank != 2 || !(is_float(t.view.dtype) || quantized_panels) || !is_float(src_dtype)) {
    throw Error(Code::invalid_argument, "Expected a weight matrix for rows of weights but received rank " +
                                            std::to_string(t.view.rank) + " of " + dtype_name(t.view.dtype));
  }
  if (row < 0 || rows < 0 || row > t.view.shape[0].size || rows > t.view.shape[0].size - row) {
    throw Error(Code::invalid_argument, "Expected rows within the tensor's " + std::to_string(t.view.shape[0].size) +
                                            " but received " + std::to_string(rows) + " rows at row " +
                                            std::to_string(row));
  }
  if (rows == 0) return;
  const OpenDevice& device = *t.storage->device();
  const PackParams params = {.src = src, .src_dtype = src_dtype, .rows = rows, .dst_row = row, .dst = matrix_of(t)};
  check(device.table().pack(device.handle(), &params));
}

}  // namespace swiftkv
