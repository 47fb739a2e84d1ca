// Matrix product with bias, stored or added to the residual stream.
#include <algorithm>

#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/scalar/product.h"

namespace swiftkv::cpu::scalar {

namespace {

// Rows that share a panel while it is in the cache.
constexpr int64_t kRowChunk = 16;

template <class A, class W, class Y>
void linear_rows(const LinearParams& p, const Context& c) {
  const A* a = static_cast<const A*>(p.a.data);
  Y* y = static_cast<Y*>(p.y.data);
  const int64_t n = p.w.n, k = p.w.k;
  const int64_t panels = (n + kPanel - 1) / kPanel, chunks = (p.rows + kRowChunk - 1) / kRowChunk;
  c.parallel_for(panels * chunks, [&](int64_t piece, int) {
    const int64_t n0 = piece / chunks * kPanel, n1 = std::min(n, n0 + kPanel);
    const int64_t row0 = piece % chunks * kRowChunk, row1 = std::min(p.rows, row0 + kRowChunk);
    float out[kPanel];
    for (int64_t i = row0; i < row1; ++i) {
      outputs<A, W>(a + i * k, p.w, p.bias, n0, n1, out, p.fp8_activations);
      for (int64_t j = n0; j < n1; ++j) {
        const float value = p.accumulate ? to_f32(y[i * n + j]) + out[j - n0] : out[j - n0];
        y[i * n + j] = from_f32<Y>(value);
      }
    }
  });
}

}  // namespace

Status linear(const LinearParams& p, const Context& c) {
  return visit_product(p.a.dtype, p.w.dtype, [&]<class A, class W>(A, W) {
    return visit_float(p.y.dtype, "y", [&]<class Y>(Y) {
      linear_rows<A, W, Y>(p, c);
      return Status{};
    });
  });
}

}  // namespace swiftkv::cpu::scalar
