// Launches products: the kernel for a product's kind, its weights and its plan, with any Finish. A file that includes
// this instantiates the kernels of one Finish.
#pragma once

#include "backends/cuda/gemm_fma.cuh"
#include "backends/cuda/gemm_integer.cuh"
#include "backends/cuda/gemm_mma.cuh"
#include "backends/cuda/launcher.h"
#include "backends/cuda/product.h"

namespace swiftkv::cuda {

template <class Kernel, class Finish>
Status launch_gemm(const char* name, const typename Kernel::Operands& operands, const Finish& finish,
                   const GemmPlan& plan, size_t shared_bytes, const Context& c) {
  const TileGrid grid{static_cast<int32_t>(plan.row_tiles), static_cast<int32_t>(plan.column_tiles), plan.columns_used};
  return launch(name, &gemm<Kernel, Finish>, grid_of(plan.blocks()), dim3(Kernel::kShape.threads()), shared_bytes,
                c.stream, operands, finish, grid);
}

template <GemmTile kTile, class Finish>
Status launch_mma(const char* name, const Product& p, const Finish& finish, const GemmPlan& plan, const Context& c) {
  const MmaOperands operands{p.rows, p.n, static_cast<const bf16*>(p.a), p.a_stride, p.a_width, p.k, p.w};
  if (p.w_dtype == DType::fp8_e4m3)
    return launch_gemm<MmaProduct<kTile, fp8_e4m3>>(name, operands, finish, plan, mma_shared_bytes(kTile, 1), c);
  return launch_gemm<MmaProduct<kTile, bf16>>(name, operands, finish, plan, mma_shared_bytes(kTile, 2), c);
}

// Products without tensor cores.
template <class Finish>
Status launch_plain(const char* name, const Product& p, const Finish& finish, const GemmPlan& plan, const Context& c) {
  if (p.kind == ProductKind::f32) {
    const FmaOperands operands{p.rows, p.n, static_cast<const float*>(p.a), p.a_width, p.k, p.w};
    using Narrow = FmaProduct<fp8_e4m3>;
    using Full = FmaProduct<float>;
    if (p.w_dtype == DType::fp8_e4m3) return launch_gemm<Narrow>(name, operands, finish, plan, Narrow::kSharedBytes, c);
    return launch_gemm<Full>(name, operands, finish, plan, Full::kSharedBytes, c);
  }
  const IntegerOperands operands{
      p.rows, p.n, p.k, static_cast<const int8_t*>(p.a), p.a_scales, p.w, static_cast<const f16*>(p.w_scales)};
  using Int4 = IntegerProduct<4>;
  using Int8 = IntegerProduct<8>;
  if (p.w_dtype == DType::int4) return launch_gemm<Int4>(name, operands, finish, plan, Int4::kSharedBytes, c);
  return launch_gemm<Int8>(name, operands, finish, plan, Int8::kSharedBytes, c);
}

}  // namespace swiftkv::cuda
