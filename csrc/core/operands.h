// What ops are applied to, seen without ownership: tensors, caches of a pool, lists of caches, sampler tables.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <variant>

#include "core/ops.h"

namespace swiftkv {

// Row axes of a step, in the order of a batch's counts: all rows, surviving rows, logit rows, sequences of both halves,
// logit rows whose log-probabilities are wanted, blocks to copy before the first row.
enum class Axis : int32_t { none = -1, T = 0, S = 1, R = 2, BT = 3, BS = 4, P = 5, C = 6 };
inline constexpr int kAxisCount = 7;

constexpr const char* axis_name(Axis a) {
  switch (a) {
    case Axis::none: return "none";
    case Axis::T: return "T";
    case Axis::S: return "S";
    case Axis::R: return "R";
    case Axis::BT: return "BT";
    case Axis::BS: return "BS";
    case Axis::P: return "P";
    case Axis::C: return "C";
  }
  return "?";
}

// One dimension. With an axis, `size` is the capacity and the length at run time is counts[axis] + plus.
struct Extent {
  int64_t size = 0;
  Axis axis = Axis::none;
  int32_t plus = 0;

  friend bool operator==(const Extent&, const Extent&) = default;
};

inline constexpr int kMaxRank = 4;

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Layout layout = Layout::row_major;
  int32_t rank = 0;
  std::array<Extent, kMaxRank> shape = {};

  static TensorView of(void* data, DType dtype, std::initializer_list<int64_t> shape,
                       Layout layout = Layout::row_major) {
    TensorView v;
    v.data = data;
    v.dtype = dtype;
    v.layout = layout;
    for (int64_t size : shape) v.shape[static_cast<size_t>(v.rank++)].size = size;
    return v;
  }

  // Elements of the whole tensor, at capacity.
  int64_t count() const {
    int64_t n = 1;
    for (int32_t i = 0; i < rank; ++i) n *= shape[static_cast<size_t>(i)].size;
    return n;
  }
};

struct CacheView {
  const KvCache* cache;
};

struct CacheListView {
  const KvCache* caches;
  int32_t count;
};

struct SamplersView {
  const SamplerSlot* slots;
  int32_t capacity;
  int32_t vocab;  // of every slot's counts and lists
};

using OperandView = std::variant<std::monostate, TensorView, CacheView, CacheListView, SamplersView>;

}  // namespace swiftkv
