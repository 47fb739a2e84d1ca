// An f32 matrix as panels, and its transpose as panels; padding is zero.
#include "backends/cpu/pack.h"
#include "backends/cpu/scalar/train_ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

namespace {

// element(row, col) of [m.n, m.k].
template <class T, class F>
void pack_panels(const Matrix& m, const Context& c, const F& element) {
  T* out = static_cast<T*>(const_cast<void*>(m.data));
  const int64_t padded_k = sizeof(T) == 4 ? m.k : (m.k + 1) / 2 * 2;
  c.parallel_for((m.n + kPanel - 1) / kPanel, [&](int64_t panel, int) {
    for (int64_t row = panel * kPanel; row < (panel + 1) * kPanel; ++row)
      for (int64_t col = 0; col < padded_k; ++col)
        out[panel_index(m.dtype, m.k, row, col)] = from_f32<T>(row < m.n && col < m.k ? element(row, col) : 0.0f);
  });
}

}  // namespace

Status pack_weight(const PackWeightParams& p, const Context& c) {
  return visit_float(p.dst.dtype, "the matrix dtype", [&]<class T>(T) {
    pack_panels<T>(p.dst, c, [&](int64_t row, int64_t col) { return p.src[row * p.k + col]; });
    if (p.transposed.data != nullptr)
      pack_panels<T>(p.transposed, c, [&](int64_t row, int64_t col) { return p.src[col * p.k + row]; });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
