// A linear problem with quantized weights, and every combination of dtypes that there is.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "fixtures.h"
#include "level_device.h"

namespace swiftkv::test {

struct QuantScheme {
  DType weights, activations;
  bool fp8_activations;
};

inline const QuantScheme kQuantSchemes[] = {
    {DType::fp8_e4m3, DType::f32, false}, {DType::fp8_e4m3, DType::bf16, false}, {DType::fp8_e4m3, DType::f32, true},
    {DType::fp8_e4m3, DType::bf16, true}, {DType::int8, DType::f32, false},      {DType::int8, DType::bf16, false},
    {DType::int4, DType::f32, false},     {DType::int4, DType::bf16, false},
};

inline std::string text(const QuantScheme& s) {
  return std::string(dtype_name(s.weights)) + " by " + dtype_name(s.activations) + (s.fp8_activations ? " in fp8" : "");
}

// y is f32, with a bias.
struct QuantizedLinear {
  // `activations`: [rows, k], `values`: the weights before they are quantized, [n, k].
  QuantizedLinear(const QuantScheme& s, const ProductShape& dims, const std::vector<float>& activations,
                  const std::vector<float>& values, const std::vector<float>& bias_values)
      : scheme(s),
        shape(dims),
        a(s.activations, activations),
        w(s.weights, Layout::panels, dims.n, dims.k, values),
        bias(DType::f32, bias_values),
        y(DType::f32, dims.rows * dims.n) {}

  LinearParams rows(int64_t first, int64_t count) const {
    return {count,
            a.activation_at(first * shape.k),
            w.matrix,
            bias.f32(),
            false,
            y.activation_at(first * shape.n),
            scheme.fp8_activations};
  }

  std::vector<float> run(const LevelDevice& device) {
    const LinearParams p = rows(0, shape.rows);
    CHECK(device.run(OpKind::linear, &p).ok());
    return y.floats();
  }

  QuantScheme scheme;
  ProductShape shape;
  Tensor a;
  Weights w;
  Tensor bias, y;
};

}  // namespace swiftkv::test
