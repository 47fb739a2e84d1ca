// The cpu backend's kernels for training: a table of its own per ISA level, beside that of inference.
#pragma once

#include "backends/cpu/kernels.h"
#include "core/train_ops.h"

namespace swiftkv::cpu {

template <class Params>
struct TrainKernel {
  Status (*run)(const Params&, const Context&) = nullptr;
  size_t (*scratch)(const Params&, int threads) = nullptr;  // null: none
};

// Every sum runs in an order that depends on shapes alone.
struct TrainKernels {
  TrainKernel<CastRowsParams> cast_rows;
  TrainKernel<RmsNormBackwardParams> rms_norm_backward;
  TrainKernel<LinearBackwardParams> linear_backward;
  TrainKernel<AttentionBackwardParams> attention_backward;
  TrainKernel<RopeBackwardParams> rope_backward;
  TrainKernel<SiluMulBackwardParams> silu_mul_backward;
  TrainKernel<DistillHeadParams> distill_head;
  TrainKernel<CrossEntropyHeadParams> cross_entropy_head;
  TrainKernel<MseParams> mse;
  TrainKernel<EmbedBackwardParams> embed_backward;
  TrainKernel<SumSquaresParams> sum_squares;
  TrainKernel<AdamwParams> adamw;
  TrainKernel<PackWeightParams> pack_weight;
};

const TrainKernels& scalar_train_kernels();
// Only where the build has the level.
namespace avx2 {
const TrainKernels& train_kernels();
}
namespace avx512 {
const TrainKernels& train_kernels();
}
namespace neon {
const TrainKernels& train_kernels();
}
namespace neon_bf16 {
const TrainKernels& train_kernels();
}

}  // namespace swiftkv::cpu
