// The cpu backend's kernels: one function per op and ISA level, all of one shape.
//
// Every level keeps the rules of row invariance: the bits of an output row depend on its inputs, its sequence's cache
// contents and nothing else; never on how many rows the call has, how they are chunked, or how many threads run.
// So: one accumulator per output and one fixed order over k, and attention in splits at absolute key positions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/ops.h"
#include "core/status.h"
#include "core/thread_pool.h"

namespace swiftkv::cpu {

// Attention walks the keys of a sequence in splits [0, 256), [256, 512), ... and merges them in ascending order.
inline constexpr int kAttentionSplit = 256;

struct Context {
  ThreadPool* pool;
  int threads;
  std::byte* scratch;  // 64-byte aligned, at least what the op's scratch function said
  size_t scratch_bytes;

  template <class F>
  void parallel_for(int64_t pieces, F&& f) const {
    pool->parallel_for(threads, pieces, static_cast<F&&>(f));
  }
};

// What a level's instructions do at most: loops of nothing else, which measurements of the kernels are compared with.
struct PeakLoops {
  // Run `steps` rounds of independent multiply-adds in registers and return how many operations those were, a
  // multiply-add being two. Null, or a negative number: there is no such instruction.
  int64_t (*fma_f32)(int64_t steps);
  int64_t (*dot_bf16)(int64_t steps);
  int64_t (*dot_int8)(int64_t steps);
  void (*read)(const std::byte* data, size_t bytes);  // every byte once; data is 64-byte aligned
};

struct TrainKernels;  // train_kernels.h

// One table per ISA level. Kernels trust their params (the registry has checked them); a Status is for what only the
// data can show. scratch_* answer for the given params (capacity rows) and thread count; null means none.
struct Kernels {
  Status (*embed)(const EmbedParams&, const Context&);
  Status (*rms_norm)(const RmsNormParams&, const Context&);
  Status (*linear)(const LinearParams&, const Context&);
  Status (*qkv_rope_cache)(const QkvRopeCacheParams&, const Context&);
  Status (*q_rope)(const QRopeParams&, const Context&);
  Status (*swiftkv_project)(const SwiftkvProjectParams&, const Context&);
  Status (*attention_decode)(const AttentionParams&, const Context&);
  Status (*attention_prefill)(const AttentionParams&, const Context&);
  Status (*silu_mul)(const SiluMulParams&, const Context&);
  Status (*gather_rows)(const GatherRowsParams&, const Context&);
  Status (*logprobs)(const LogprobsParams&, const Context&);
  Status (*sample)(const SampleParams&, const Context&);
  Status (*kv_quantize)(const KvQuantizeParams&, const Context&);
  Status (*kv_dequantize)(const KvDequantizeParams&, const Context&);
  Status (*copy_blocks)(const CopyBlocksParams&, const Context&);
  Status (*quantize_rows)(const QuantizeRowsParams&, const Context&);
  Status (*rope_table)(const RopeTableParams&, const Context&);
  Status (*copy_rows)(const CopyRowsParams&, const Context&);

  size_t (*linear_scratch)(const LinearParams&, int threads);
  size_t (*qkv_rope_cache_scratch)(const QkvRopeCacheParams&, int threads);
  size_t (*q_rope_scratch)(const QRopeParams&, int threads);
  size_t (*swiftkv_project_scratch)(const SwiftkvProjectParams&, int threads);
  size_t (*attention_decode_scratch)(const AttentionParams&, int threads);
  size_t (*attention_prefill_scratch)(const AttentionParams&, int threads);
  size_t (*sample_scratch)(const SampleParams&, int threads);
  size_t (*logprobs_scratch)(const LogprobsParams&, int threads);

  const PeakLoops* peak;
  const TrainKernels& (*train)();
};

const Kernels& scalar_kernels();
// Only where the build has the level: SWIFTKV_HAVE_AVX2, ...
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& neon_kernels();
const Kernels& neon_bf16_kernels();

}  // namespace swiftkv::cpu
