// Self-tests of the conversions, of ptx.h and of convert.h. in: two words per thread, any bits.
#include "backends/cuda/convert.h"
#include "backends/cuda/warp.h"

using namespace swiftkv;
using namespace swiftkv::cuda;

// NaN has many bits and no meaning in them.
SWIFTKV_DEVICE uint32_t self_bits(float x) {
  return x != x ? 0x7fffffffu : __float_as_uint(x);
}

SWIFTKV_DEVICE int self_thread() {
  return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

SWIFTKV_DEVICE float self_float(const uint32_t* in, int i) {
  return __uint_as_float(in[2 * self_thread() + i]);
}

extern "C" __global__ void self_pack_bf16x2(const uint32_t* in, uint32_t* out) {
  out[self_thread()] = ptx::pack_bf16x2(self_float(in, 0), self_float(in, 1));
}

extern "C" __global__ void self_pack_f16x2(const uint32_t* in, uint32_t* out) {
  out[self_thread()] = ptx::pack_f16x2(self_float(in, 0), self_float(in, 1));
}

extern "C" __global__ void self_unpack_f16x2(const uint32_t* in, uint32_t* out) {
  const float2 r = ptx::unpack_f16x2(in[2 * self_thread()]);
  out[2 * self_thread()] = self_bits(r.x);
  out[2 * self_thread() + 1] = self_bits(r.y);
}

#if !defined(__CUDACC__) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890

extern "C" __global__ void self_pack_e4m3x2(const uint32_t* in, uint32_t* out) {
  out[self_thread()] = ptx::pack_e4m3x2(self_float(in, 0), self_float(in, 1));
}

extern "C" __global__ void self_unpack_e4m3x2_f16x2(const uint32_t* in, uint32_t* out) {
  out[self_thread()] = ptx::unpack_e4m3x2_f16x2(static_cast<uint16_t>(in[2 * self_thread()]));
}

#endif

// What convert.h makes of them: on sm_80 integer arithmetic instead of instructions.
extern "C" __global__ void self_pack_e4m3(const uint32_t* in, uint32_t* out) {
  const uint32_t codes = pack_e4m3(self_float(in, 0), self_float(in, 1));
  // The sign of a code that is NaN is free.
  const uint32_t low = (codes & 0x7fu) == 0x7fu ? 0x7fu : codes & 0xffu;
  const uint32_t high = (codes >> 8 & 0x7fu) == 0x7fu ? 0x7fu : codes >> 8 & 0xffu;
  out[self_thread()] = low | high << 8;
}

extern "C" __global__ void self_widen_e4m3x4(const uint32_t* in, uint32_t* out) {
  const uint2 r = widen_e4m3x4(in[2 * self_thread()]);
  for (int i = 0; i < 4; ++i) {
    const uint32_t pair = i < 2 ? r.x : r.y;
    out[4 * self_thread() + i] = self_bits(i % 2 == 0 ? bf16_low(pair) : bf16_high(pair));
  }
}

extern "C" __global__ void self_load_store(const uint32_t* in, uint32_t* out) {
  const int at = 4 * self_thread();
  const uint32_t word = in[2 * self_thread()];
  out[at] = self_bits(load_f32(fp8_e4m3{static_cast<uint8_t>(word)}));
  out[at + 1] = self_bits(load_f32(bf16{static_cast<uint16_t>(word >> 8)}));
  out[at + 2] = store_as<bf16>(self_float(in, 1)).bits;
  out[at + 3] = store_as<f16>(self_float(in, 1)).bits;
}

// in: finite values. Shuffles and a block barrier, in one fixed order.
extern "C" __global__ void self_block_sum(const uint32_t* in, uint32_t* out) {
  SWIFTKV_SHARED(float, partial, [2][kWarp]);
  const float x = __uint_as_float(in[2 * self_thread()] & 0xbfffffffu);
  out[2 * self_thread()] = __float_as_uint(block_sum(x, partial[0]));
  out[2 * self_thread() + 1] = __float_as_uint(block_max(x, partial[1]));
}
