// Operands for registry tests, without any memory behind them unless a test gives it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/op_registry.h"
#include "core/status.h"

namespace swiftkv::test {

inline TensorView f32(std::initializer_list<int64_t> shape, void* data = nullptr) {
  return TensorView::of(data, DType::f32, shape);
}
inline TensorView bf16_view(std::initializer_list<int64_t> shape, void* data = nullptr) {
  return TensorView::of(data, DType::bf16, shape);
}
inline TensorView i32(std::initializer_list<int64_t> shape, const void* data = nullptr) {
  return TensorView::of(const_cast<void*>(data), DType::i32, shape);
}
inline TensorView packed(DType dtype, int64_t n, int64_t k) {
  return TensorView::of(nullptr, dtype, {n, k}, Layout::panels);
}

inline KvCache cache_of(int32_t blocks, int32_t heads, int32_t head_dim, std::byte* data = nullptr) {
  const int64_t head = int64_t{2} * kBlockTokens * head_dim * 4;
  return {.data = data,
          .dtype = DType::f32,
          .scales = KvScales::none,
          .num_blocks = blocks,
          .num_kv_heads = heads,
          .head_dim = head_dim,
          .head_bytes = head,
          .block_bytes = head * heads,
          .k_scale = nullptr,
          .v_scale = nullptr};
}

using Operands = std::vector<NamedOperand>;
using Attrs = std::vector<NamedAttr>;

// A copy with one operand replaced or added; a monostate takes it away.
inline Operands with(Operands operands, std::string_view name, OperandView view) {
  std::erase_if(operands, [&](const NamedOperand& o) { return o.name == name; });
  if (view.index() != 0) operands.push_back({name, view});
  return operands;
}

// The message of the error that f throws; empty if it throws none.
inline std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

inline std::string bind_error(OpKind kind, const Operands& operands, const Attrs& attrs = {}) {
  return message_of([&] { bind_op(kind, operands, attrs); });
}

}  // namespace swiftkv::test
