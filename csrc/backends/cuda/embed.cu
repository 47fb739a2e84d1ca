#include "backends/cuda/embed.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

namespace {

template <DType kDtype, bool kPanels, bool kWhole>
Status embed_as(const EmbedParams& p, const Context& c) {
  const RowsPlan plan = plan_rows(p.table.k, kReadK);
  return launch("embed", &embed_kernel<kDtype, kPanels, kWhole>, grid_of(plan.blocks(p.rows)), dim3(plan.threads), 0,
                c.stream, p, plan.blocks_per_row);
}

template <DType kDtype>
Status embed_panels(const EmbedParams& p, const Context& c) {
  // Whole 16s of the row, so that the last thread has no end to look for.
  const bool whole = p.table.k % kReadK == 0 && whole_vectors(p.x, p.table.k);
  return whole ? embed_as<kDtype, true, true>(p, c) : embed_as<kDtype, true, false>(p, c);
}

template <DType kDtype>
Status embed_floats(const EmbedParams& p, const Context& c) {
  // A row-major table whose rows need no padding is one in panels.
  const bool aligned = p.table.k % kPadK == 0 && reinterpret_cast<uintptr_t>(p.table.data) % 16 == 0;
  if (p.table.layout == Layout::panels || aligned) return embed_panels<kDtype>(p, c);
  return embed_as<kDtype, false, false>(p, c);
}

}  // namespace

Status embed(const EmbedParams& p, const Context& c) {
  switch (p.table.dtype) {
    case DType::f32: return embed_floats<DType::f32>(p, c);
    case DType::bf16: return embed_floats<DType::bf16>(p, c);
    case DType::f16: return embed_floats<DType::f16>(p, c);
    case DType::fp8_e4m3: return embed_panels<DType::fp8_e4m3>(p, c);
    case DType::int8: return embed_panels<DType::int8>(p, c);
    case DType::int4: return embed_panels<DType::int4>(p, c);
    default: return fail(Code::unsupported, "No embedding table is %s", dtype_name(p.table.dtype));
  }
}

}  // namespace swiftkv::cuda
