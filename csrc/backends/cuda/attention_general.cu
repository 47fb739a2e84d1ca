#include "backends/cuda/attention_general.cuh"

#include "backends/cuda/attention_launch.h"

namespace swiftkv::cuda {
namespace {

template <class C>
Status launch_general(const AttentionParams& p, const Context& ctx) {
  const auto shared = static_cast<size_t>(general_shared_bytes(p.cache.head_dim));
  const auto run = [&](void (*kernel)(AttentionParams)) {
    return launch("attention_general", kernel, grid_of(p.half.rows * p.num_heads), grid_of(kGeneralWarps * kWarp),
                  shared, ctx.stream, p);
  };
  switch (general_pairs(p.cache.head_dim)) {
    case 1: return run(&attention_general_kernel<C, 1>);
    case 2: return run(&attention_general_kernel<C, 2>);
    default: return run(&attention_general_kernel<C, 8>);
  }
}

}  // namespace

Status attention_general(const AttentionParams& p, const Context& ctx) {
  switch (p.cache.dtype) {
    case DType::f32: return launch_general<float>(p, ctx);
    case DType::bf16: return launch_general<bf16>(p, ctx);
    case DType::fp8_e4m3: return launch_general<fp8_e4m3>(p, ctx);
    default:
      return fail(Code::unsupported, "Expected f32, bf16 or fp8_e4m3 for the cache but received %s",
                  dtype_name(p.cache.dtype));
  }
}

}  // namespace swiftkv::cuda
