// The rotation undone: that of the opposite angle.
#include "backends/cpu/scalar/train_ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

namespace {

template <class T>
void rotate_back(const float* d, const float* cos_sin, int64_t head_dim, T* out) {
  const int64_t half = head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float c = cos_sin[i], s = cos_sin[half + i];
    out[i] = from_f32<T>(d[i] * c + d[half + i] * s);
    out[half + i] = from_f32<T>(d[half + i] * c - d[i] * s);
  }
}

template <class T>
void row_backward(const RopeBackwardParams& p, int64_t row, T* out) {
  const int64_t hd = p.head_dim, kv = p.num_kv_heads * hd;
  const float* cos_sin = p.rope + p.positions[row] * hd;
  const float* dq = p.dq + row * p.num_heads * hd;
  for (int64_t h = 0; h < p.num_heads; ++h, dq += hd, out += hd) rotate_back(dq, cos_sin, hd, out);
  const float* dkv = p.dkv + row * p.num_groups * 2 * kv;
  for (int64_t g = 0; g < p.num_groups; ++g) {
    for (int64_t h = 0; h < p.num_kv_heads; ++h, dkv += hd, out += hd) rotate_back(dkv, cos_sin, hd, out);
    for (int64_t i = 0; i < kv; ++i) out[i] = from_f32<T>(dkv[i]);
    dkv += kv;
    out += kv;
  }
}

}  // namespace

Status rope_backward(const RopeBackwardParams& p, const Context& c) {
  return visit_float(p.out.dtype, "out", [&]<class T>(T) {
    const int64_t width = (p.num_heads + int64_t{p.num_groups} * 2 * p.num_kv_heads) * p.head_dim;
    c.parallel_for(p.rows, [&](int64_t row, int) { row_backward(p, row, static_cast<T*>(p.out.data) + row * width); });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
