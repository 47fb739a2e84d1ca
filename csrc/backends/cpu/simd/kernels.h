// The table of a level: everything it has to bring is a Vec.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/simd/attention.h"
#include "backends/cpu/simd/kv_quantize.h"
#include "backends/cpu/simd/linear.h"
#include "backends/cpu/simd/peak.h"
#include "backends/cpu/simd/q_rope.h"
#include "backends/cpu/simd/qkv_rope_cache.h"
#include "backends/cpu/simd/rms_norm.h"
#include "backends/cpu/simd/sample.h"
#include "backends/cpu/simd/silu_mul.h"
#include "backends/cpu/simd/swiftkv_project.h"
#include "backends/cpu/train_kernels.h"

namespace swiftkv::cpu::simd {

template <class V, const TrainKernels& (*Train)()>
static constexpr Kernels kKernels{
    .embed = scalar::embed,  // a row per token: waits for memory
    .rms_norm = rms_norm<V>,
    .linear = linear<V>,
    .qkv_rope_cache = qkv_rope_cache<V>,
    .q_rope = q_rope<V>,
    .swiftkv_project = swiftkv_project<V>,
    .attention_decode = attention_decode<V>,
    .attention_prefill = attention_prefill<V>,
    .silu_mul = silu_mul<V>,
    .gather_rows = scalar::gather_rows,  // one memcpy a row
    .logprobs = scalar::logprobs,        // only for requests that ask, about 1 ms a row of 128 Ki logits
    .sample = sample<V>,
    .kv_quantize = kv_quantize<V>,
    .kv_dequantize = scalar::kv_dequantize,  // no part of a step
    .copy_blocks = scalar::copy_blocks,      // one memcpy a block
    .quantize_rows = scalar::quantize_rows,  // no part of a step: products quantize their own rows
    .rope_table = scalar::rope_table,        // once per model, and the same angles at every level
    .copy_rows = scalar::copy_rows,          // no part of a step
    .linear_scratch = linear_scratch<V>,
    .qkv_rope_cache_scratch = qkv_rope_cache_scratch<V>,
    .q_rope_scratch = q_rope_scratch<V>,
    .swiftkv_project_scratch = swiftkv_project_scratch<V>,
    .attention_decode_scratch = attention_decode_scratch<V>,
    .attention_prefill_scratch = attention_prefill_scratch<V>,
    .sample_scratch = sample_scratch<V>,
    .logprobs_scratch = nullptr,
    .peak = &kPeakLoops<V>,
    .train = Train,
};

}  // namespace swiftkv::cpu::simd
