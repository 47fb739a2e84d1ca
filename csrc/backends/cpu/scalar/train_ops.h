// The scalar level's kernels of training: straight float32 loops, the reference of every other level.
#pragma once

#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::scalar {

Status cast_rows(const CastRowsParams&, const Context&);
Status rms_norm_backward(const RmsNormBackwardParams&, const Context&);
Status linear_backward(const LinearBackwardParams&, const Context&);
Status attention_backward(const AttentionBackwardParams&, const Context&);
Status rope_backward(const RopeBackwardParams&, const Context&);
Status silu_mul_backward(const SiluMulBackwardParams&, const Context&);
Status distill_head(const DistillHeadParams&, const Context&);
Status cross_entropy_head(const CrossEntropyHeadParams&, const Context&);
Status mse(const MseParams&, const Context&);
Status embed_backward(const EmbedBackwardParams&, const Context&);
Status sum_squares(const SumSquaresParams&, const Context&);
Status adamw(const AdamwParams&, const Context&);
Status pack_weight(const PackWeightParams&, const Context&);

size_t rms_norm_backward_scratch(const RmsNormBackwardParams&, int threads);
size_t distill_head_scratch(const DistillHeadParams&, int threads);
size_t cross_entropy_head_scratch(const CrossEntropyHeadParams&, int threads);
size_t sum_squares_scratch(const SumSquaresParams&, int threads);
size_t attention_backward_scratch(const AttentionBackwardParams&, int threads);

}  // namespace swiftkv::cpu::scalar
