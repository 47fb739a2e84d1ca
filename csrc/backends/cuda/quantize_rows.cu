// quantize_rows: activations to fp8 codes with one scale per row.
#include "backends/cuda/gemm_rows.cuh"
#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status quantize_rows(const QuantizeRowsParams& p, const Context& c) {
  return visit_activation(p.a.dtype, [&]<class T>(T) {
    return launch("quantize_rows", &fp8_rows<T, fp8_e4m3>, grid_of(p.rows), dim3(kRowThreads), 0, c.stream,
                  static_cast<const T*>(p.a.data), p.dim, p.dim, reinterpret_cast<fp8_e4m3*>(p.codes), p.scales);
  });
}

}  // namespace swiftkv::cuda
