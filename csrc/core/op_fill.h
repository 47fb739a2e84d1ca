// Reads operands and attributes of a bound op, for filling its params. Internal to the registry.
#pragma once

#include "core/op_registry.h"

namespace swiftkv::fill_from {

inline const TensorView* tensor(const BoundOp& op, size_t i) {
  return std::get_if<TensorView>(&op.operands[i]);
}

// Null when the operand is absent.
template <class T>
inline T* pointer(const BoundOp& op, size_t i) {
  const TensorView* t = tensor(op, i);
  return t == nullptr ? nullptr : static_cast<T*>(t->data);
}

inline Activation activation(const BoundOp& op, size_t i) {
  const TensorView* t = tensor(op, i);
  return {.data = t->data, .dtype = t->dtype};
}

inline Matrix matrix(const BoundOp& op, size_t i) {
  const TensorView* t = tensor(op, i);
  return {.data = t->data, .dtype = t->dtype, .layout = t->layout, .n = t->shape[0].size, .k = t->shape[1].size};
}

inline const KvCache& kv_cache(const BoundOp& op, size_t i) {
  return *std::get<CacheView>(op.operands[i]).cache;
}

inline int32_t narrow(const BoundOp& op, Sym s) {
  return static_cast<int32_t>(op.size(s));  // bind_op has checked the range
}

inline float attr(const BoundOp& op, size_t i) {
  return static_cast<float>(op.attrs[i]);
}

}  // namespace swiftkv::fill_from
