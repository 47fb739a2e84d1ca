// The scalar level: one function per op, straight float32 loops. It is the reference of every other level.
#pragma once

#include "backends/cpu/kernels.h"

namespace swiftkv::cpu::scalar {

Status embed(const EmbedParams&, const Context&);
Status rms_norm(const RmsNormParams&, const Context&);
Status linear(const LinearParams&, const Context&);
Status qkv_rope_cache(const QkvRopeCacheParams&, const Context&);
Status q_rope(const QRopeParams&, const Context&);
Status swiftkv_project(const SwiftkvProjectParams&, const Context&);
Status attention(const AttentionParams&, const Context&);
Status silu_mul(const SiluMulParams&, const Context&);
Status gather_rows(const GatherRowsParams&, const Context&);
Status logprobs(const LogprobsParams&, const Context&);
Status sample(const SampleParams&, const Context&);
Status kv_quantize(const KvQuantizeParams&, const Context&);
Status kv_dequantize(const KvDequantizeParams&, const Context&);
Status copy_blocks(const CopyBlocksParams&, const Context&);
Status quantize_rows(const QuantizeRowsParams&, const Context&);
Status rope_table(const RopeTableParams&, const Context&);
Status copy_rows(const CopyRowsParams&, const Context&);

size_t qkv_rope_cache_scratch(const QkvRopeCacheParams&, int threads);
size_t q_rope_scratch(const QRopeParams&, int threads);
size_t swiftkv_project_scratch(const SwiftkvProjectParams&, int threads);
size_t attention_scratch(const AttentionParams&, int threads);
size_t sample_scratch(const SampleParams&, int threads);

extern const PeakLoops kPeakLoops;

}  // namespace swiftkv::cpu::scalar
