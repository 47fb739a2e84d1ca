// The AVX-512 + bf16 level's table.
#include "backends/cpu/kernels.h"
#include "backends/cpu/train_kernels.h"

#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu {

const Kernels& avx512_kernels() {
  static constexpr Kernels table{
      .embed = avx512::embed,
      .rms_norm = avx512::rms_norm,
      .linear = avx512::linear,
      .qkv_rope_cache = avx512::qkv_rope_cache,
      .q_rope = avx512::q_rope,
      .swiftkv_project = avx512::swiftkv_project,
      .attention_decode = avx512::attention_decode,
      .attention_prefill = avx512::attention_prefill,
      .silu_mul = avx512::silu_mul,
      .gather_rows = scalar::gather_rows,  // one memcpy a row
      .logprobs = avx512::logprobs,
      .sample = avx512::sample,
      .kv_quantize = avx512::kv_quantize,
      .kv_dequantize = avx512::kv_dequantize,
      .copy_blocks = scalar::copy_blocks,  // one memcpy a block
      .quantize_rows = avx512::quantize_rows,
      .rope_table = scalar::rope_table,  // once per model, and the same angles at every level
      .copy_rows = avx512::copy_rows,
      .linear_scratch = avx512::linear_scratch,
      .qkv_rope_cache_scratch = avx512::qkv_rope_cache_scratch,
      .q_rope_scratch = avx512::q_rope_scratch,
      .swiftkv_project_scratch = avx512::swiftkv_project_scratch,
      .attention_decode_scratch = avx512::attention_decode_scratch,
      .attention_prefill_scratch = avx512::attention_prefill_scratch,
      .sample_scratch = avx512::sample_scratch,
      .logprobs_scratch = nullptr,
      .peak = &avx512::kPeakLoops,
      .train = avx512::train_kernels,
  };
  return table;
}

}  // namespace swiftkv::cpu
