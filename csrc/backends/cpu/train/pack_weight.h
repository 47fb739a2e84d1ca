// An f32 matrix as the panels of products, and its transpose: bit for bit what cpu::pack makes of the same numbers.
#pragma once

#include "backends/cpu/train/panels.h"
#include "core/train_ops.h"

namespace swiftkv::cpu::train {

template <class V, class T>
static void pack_both(const PackWeightParams& p, const Context& c) {
  pack_along<V, T>(p.src, p.rows, p.k, const_cast<void*>(p.dst.data), c);
  if (p.transposed.data != nullptr) pack_down<V, T>(p.src, p.rows, p.k, const_cast<void*>(p.transposed.data), c);
}

template <class V>
static Status pack_weight(const PackWeightParams& p, const Context& c) {
  p.dst.dtype == DType::bf16 ? pack_both<V, bf16>(p, c) : pack_both<V, float>(p, c);
  return {};
}

}  // namespace swiftkv::cpu::train
