// Eight elements at a time: 32 bytes of f32, 16 of bf16. What kernels that only move rows are made of.
#pragma once

#include <cstdint>

#include "backends/cuda/convert.h"

namespace swiftkv::cuda {

inline constexpr int kVector = 8;

// Whether rows of `width` elements of T that start at `data` can be walked by whole vectors.
template <class T>
bool whole_vectors(const T* data, int64_t width) {
  return width % kVector == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

// The place of vector `index` where all are whole. Written with the multiple in sight: of other sums of indices nvcc
// forgets that they are aligned, and takes the first store there apart.
template <class T>
SWIFTKV_DEVICE T* vector_at(T* data, int64_t index) {
  return data + index * kVector;
}

SWIFTKV_DEVICE void load_vector(const float* p, float (&x)[kVector]) {
  const auto* v = reinterpret_cast<const float4*>(p);
  const float4 a = v[0], b = v[1];
  x[0] = a.x, x[1] = a.y, x[2] = a.z, x[3] = a.w;
  x[4] = b.x, x[5] = b.y, x[6] = b.z, x[7] = b.w;
}

SWIFTKV_DEVICE void load_vector(const bf16* p, float (&x)[kVector]) {
  const uint4 v = *reinterpret_cast<const uint4*>(p);
  x[0] = bf16_low(v.x), x[1] = bf16_high(v.x);
  x[2] = bf16_low(v.y), x[3] = bf16_high(v.y);
  x[4] = bf16_low(v.z), x[5] = bf16_high(v.z);
  x[6] = bf16_low(v.w), x[7] = bf16_high(v.w);
}

SWIFTKV_DEVICE void store_vector(float* p, const float (&x)[kVector]) {
  auto* v = reinterpret_cast<float4*>(p);
  v[0] = make_float4(x[0], x[1], x[2], x[3]);
  v[1] = make_float4(x[4], x[5], x[6], x[7]);
}

SWIFTKV_DEVICE void store_vector(bf16* p, const float (&x)[kVector]) {
  *reinterpret_cast<uint4*>(p) = make_uint4(ptx::pack_bf16x2(x[0], x[1]), ptx::pack_bf16x2(x[2], x[3]),
                                            ptx::pack_bf16x2(x[4], x[5]), ptx::pack_bf16x2(x[6], x[7]));
}

// The same of a row's last elements, or of rows that are not aligned: `count` of them, the others 0.
template <class T>
SWIFTKV_DEVICE void load_some(const T* p, int64_t count, float (&x)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] = i < count ? load_f32(p[i]) : 0.0f;
}

template <class T>
SWIFTKV_DEVICE void store_some(T* p, int64_t count, const float (&x)[kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (i < count) p[i] = store_as<T>(x[i]);
  }
}

}  // namespace swiftkv::cuda
