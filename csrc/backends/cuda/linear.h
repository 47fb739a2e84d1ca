// The product of linear, for ops that need its sums in memory.
#pragma once

#include "backends/cuda/product.h"

namespace swiftkv::cuda {

struct LinearTarget {
  Activation y;  // [rows, n]
  bool accumulate;
  const float* bias;  // [n] or null
  bool scaled;        // multiply by the scales of rows and outputs; integer products always have their groups'
};

Status linear_product(const char* name, const Product& p, const LinearTarget& to, const Context& c);

}  // namespace swiftkv::cuda
