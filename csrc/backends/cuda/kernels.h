// The launchers of the cuda backend, one per op: check nothing (the registry has), choose tiles by a pure function,
// launch on the context's stream and return. They never wait, allocate or read device memory on the host.
//
// Of the params, pointers to tensors, indices, pages, sampler slots and their lists are device memory; arrays of
// KvCache are host memory (their `data` and scales are device memory), to be passed to kernels by value.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/ops.h"
#include "core/status.h"

struct CUstream_st;

namespace swiftkv::cuda {

using Stream = CUstream_st*;

// Attention walks the keys of a sequence in splits [0, 256), [256, 512), ... and merges them in ascending order.
inline constexpr int kAttentionSplit = 256;

// What choosing tiles and splits depends on. Plain data, so that choices are tested without a device.
struct DeviceLimits {
  int32_t arch;                // compute capability, 10 * major + minor: 80, 89, 90, 100
  int32_t num_sms;             // streaming multiprocessors
  int32_t shared_bytes_block;  // dynamic shared memory that one block may have (opt-in maximum)
  int32_t shared_bytes_sm;
};

struct Context {
  Stream stream;
  std::byte* scratch;  // device memory, 256-byte aligned, at least what the op's scratch function said
  size_t scratch_bytes;
  const DeviceLimits& limits;
  // Bits of a row never depend on the rows beside it. Without it, linear may choose by the number of rows.
  bool batch_invariant;
};

Status embed(const EmbedParams&, const Context&);
Status rms_norm(const RmsNormParams&, const Context&);
Status linear(const LinearParams&, const Context&);
Status qkv_rope_cache(const QkvRopeCacheParams&, const Context&);
Status q_rope(const QRopeParams&, const Context&);
Status swiftkv_project(const SwiftkvProjectParams&, const Context&);
Status attention(const AttentionParams&, const Context&);  // both of the next two
Status attention_decode(const AttentionParams&, const Context&);
Status attention_prefill(const AttentionParams&, const Context&);
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

// Bytes of scratch for these params, whose row counts and numbers of sequences are the largest that will come.
size_t linear_scratch(const LinearParams&, const DeviceLimits&);
size_t qkv_rope_cache_scratch(const QkvRopeCacheParams&, const DeviceLimits&);
size_t q_rope_scratch(const QRopeParams&, const DeviceLimits&);
size_t swiftkv_project_scratch(const SwiftkvProjectParams&, const DeviceLimits&);
size_t attention_scratch(const AttentionParams&, const DeviceLimits&);  // of all three attention ops
size_t logprobs_scratch(const LogprobsParams&, const DeviceLimits&);
size_t sample_scratch(const SampleParams&, const DeviceLimits&);

}  // namespace swiftkv::cuda
