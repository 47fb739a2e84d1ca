// The AVX-512 + bf16, VNNI and VBMI level's kernels; kernels.cpp lists them and says where the scalar ones serve as
// they are. Files here are compiled with AVX-512 flags, so every helper is `static inline` or in an anonymous
// namespace.
#pragma once

#include "backends/cpu/kernels.h"

namespace swiftkv::cpu::avx512 {

Status embed(const EmbedParams&, const Context&);
Status rms_norm(const RmsNormParams&, const Context&);
Status linear(const LinearParams&, const Context&);
Status qkv_rope_cache(const QkvRopeCacheParams&, const Context&);
Status q_rope(const QRopeParams&, const Context&);
Status swiftkv_project(const SwiftkvProjectParams&, const Context&);
Status attention_decode(const AttentionParams&, const Context&);
Status attention_prefill(const AttentionParams&, const Context&);
Status silu_mul(const SiluMulParams&, const Context&);
Status logprobs(const LogprobsParams&, const Context&);
Status sample(const SampleParams&, const Context&);
Status kv_quantize(const KvQuantizeParams&, const Context&);
Status kv_dequantize(const KvDequantizeParams&, const Context&);
Status quantize_rows(const QuantizeRowsParams&, const Context&);
Status copy_rows(const CopyRowsParams&, const Context&);

size_t linear_scratch(const LinearParams&, int threads);
size_t qkv_rope_cache_scratch(const QkvRopeCacheParams&, int threads);
size_t q_rope_scratch(const QRopeParams&, int threads);
size_t swiftkv_project_scratch(const SwiftkvProjectParams&, int threads);
size_t attention_decode_scratch(const AttentionParams&, int threads);
size_t attention_prefill_scratch(const AttentionParams&, int threads);
size_t sample_scratch(const SampleParams&, int threads);

extern const PeakLoops kPeakLoops;

}  // namespace swiftkv::cpu::avx512
