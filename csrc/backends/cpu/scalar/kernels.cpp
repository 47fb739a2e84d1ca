// The scalar level's table.
#include "backends/cpu/kernels.h"
#include "backends/cpu/train_kernels.h"

#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu {

const Kernels& scalar_kernels() {
  static constexpr Kernels table{
      .embed = scalar::embed,
      .rms_norm = scalar::rms_norm,
      .linear = scalar::linear,
      .qkv_rope_cache = scalar::qkv_rope_cache,
      .q_rope = scalar::q_rope,
      .swiftkv_project = scalar::swiftkv_project,
      .attention_decode = scalar::attention,
      .attention_prefill = scalar::attention,
      .silu_mul = scalar::silu_mul,
      .gather_rows = scalar::gather_rows,
      .logprobs = scalar::logprobs,
      .sample = scalar::sample,
      .kv_quantize = scalar::kv_quantize,
      .kv_dequantize = scalar::kv_dequantize,
      .copy_blocks = scalar::copy_blocks,
      .quantize_rows = scalar::quantize_rows,
      .rope_table = scalar::rope_table,
      .copy_rows = scalar::copy_rows,
      .linear_scratch = nullptr,
      .qkv_rope_cache_scratch = scalar::qkv_rope_cache_scratch,
      .q_rope_scratch = scalar::q_rope_scratch,
      .swiftkv_project_scratch = scalar::swiftkv_project_scratch,
      .attention_decode_scratch = scalar::attention_scratch,
      .attention_prefill_scratch = scalar::attention_scratch,
      .sample_scratch = scalar::sample_scratch,
      .logprobs_scratch = nullptr,
      .peak = &scalar::kPeakLoops,
      .train = scalar_train_kernels,
  };
  return table;
}

}  // namespace swiftkv::cpu
