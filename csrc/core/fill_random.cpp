#include "core/fill_random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/random.h"

namespace swiftkv {

namespace {

// The finaliser of lowbias32 (Wellons 2018): 32-bit multiplications vectorise on every ISA level.
inline uint32_t mix32(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

uint32_t row_key(uint64_t seed, int64_t row) {
  return static_cast<uint32_t>(mix64(mix64(seed) + static_cast<uint64_t>(row)));
}

// 24 bits, so that the conversion is exact and the result is below scale.
inline float uniform(uint32_t key, uint32_t col, float scale) {
  const uint32_t bits = mix32(key ^ mix32(col));
  return static_cast<float>(static_cast<int32_t>(bits) >> 8) * 0x1p-23f * scale;
}

}  // namespace

RandomFill::RandomFill(Tensor tensor, uint64_t seed, float scale, std::shared_ptr<ThreadPool> pool)
    : tensor_(std::move(tensor)), seed_(seed), scale_(scale), pool_(std::move(pool)) {
  const TensorView& view = tensor_.view;
  const bool is_float = view.dtype == DType::f32 || view.dtype == DType::bf16 || view.dtype == DType::f16;
  if (!is_float && !(is_quantized(view.dtype) && view.layout == Layout::panels))
    throw Error(Code::invalid_argument,
                std::string("fillRandom: expected a tensor of f32, bf16 or f16 or a weight matrix but received ") +
                    dtype_name(view.dtype));
  if (!std::isfinite(scale) || scale < 0)
    throw Error(Code::invalid_argument, "fillRandom: expected a finite scale of at least 0");
  if (view.rank > 0) rows_ = view.shape[0].size;
  for (int32_t i = 1; i < view.rank; ++i) cols_ *= view.shape[static_cast<size_t>(i)].size;
}

void RandomFill::run() {
  if (rows_ == 0 || cols_ == 0) return;
  const bool in_place = tensor_.storage->device()->host_memory();
  switch (in_place ? tensor_.view.dtype : DType::u8) {
    case DType::f32: fill<float>(); break;
    case DType::bf16: fill<bf16>(); break;
    case DType::f16: fill<f16>(); break;
    default: fill_by_rows();
  }
  if (cancelled_.load(std::memory_order_relaxed)) throw Error(Code::aborted, "fillRandom was cancelled");
}

// Through rows of floats on the host: for matrices whose rows are quantized as a whole, and for memory of another
// device. A tensor of another rank is a matrix all the same: only its bytes count.
void RandomFill::fill_by_rows() {
  Tensor matrix = tensor_;
  matrix.view.rank = 2;
  matrix.view.shape = {Extent{.size = rows_}, Extent{.size = cols_}};
  // As many rows as fill this, so that a device gets pieces of a size that suits its copies.
  constexpr int64_t kPieceBytes = int64_t{1} << 20;
  const int64_t step = std::clamp<int64_t>(kPieceBytes / (cols_ * 4), 1, kPanel);
  const auto piece = [&](int64_t index, int) {
    if (cancelled_.load(std::memory_order_relaxed)) return;
    const int64_t first = index * step, count = std::min(step, rows_ - first);
    std::vector<float> values(static_cast<size_t>(count * cols_));
    for (int64_t r = 0; r < count; ++r) {
      const uint32_t key = row_key(seed_, first + r);
      float* row = values.data() + r * cols_;
      for (int64_t c = 0; c < cols_; ++c) row[c] = uniform(key, static_cast<uint32_t>(c), scale_);
    }
    write_rows(matrix, first, count, values.data(), DType::f32);
  };
  pool_->parallel_for(tensor_.storage->device()->threads(), (rows_ + step - 1) / step, piece);
}

// A piece is one panel's worth of rows, in either layout.
template <class T>
void RandomFill::fill() {
  const bool panels = tensor_.view.layout == Layout::panels;
  constexpr int64_t kGroup = sizeof(T) == 4 ? 1 : 2;  // elements along k that are adjacent in a panel
  const int64_t groups = (cols_ + kGroup - 1) / kGroup;
  T* const data = reinterpret_cast<T*>(tensor_.storage->data());
  const auto piece = [&](int64_t index, int) {
    if (cancelled_.load(std::memory_order_relaxed)) return;
    const int64_t first = index * kPanel;
    const int64_t count = std::min<int64_t>(kPanel, rows_ - first);
    uint32_t keys[kPanel];
    for (int64_t r = 0; r < count; ++r) keys[r] = row_key(seed_, first + r);
    if (!panels) {
      for (int64_t r = 0; r < count; ++r) {
        T* row = data + (first + r) * cols_;
        for (int64_t c = 0; c < cols_; ++c) row[c] = from_f32<T>(uniform(keys[r], static_cast<uint32_t>(c), scale_));
      }
      return;
    }
    for (int64_t c = 0; c < cols_; ++c) {
      T* out = data + ((index * groups + c / kGroup) * kPanel) * kGroup + c % kGroup;
      for (int64_t r = 0; r < count; ++r)
        out[r * kGroup] = from_f32<T>(uniform(keys[r], static_cast<uint32_t>(c), scale_));
    }
  };
  pool_->parallel_for(tensor_.storage->device()->threads(), (rows_ + kPanel - 1) / kPanel, piece);
}

}  // namespace swiftkv
