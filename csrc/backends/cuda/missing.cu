// Ops that have no kernel yet; shrinks to nothing.
#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

Status embed(const EmbedParams&, const Context&) {
  return fail(Code::unsupported, "embed has no kernel yet");
}
Status rms_norm(const RmsNormParams&, const Context&) {
  return fail(Code::unsupported, "rms_norm has no kernel yet");
}
Status linear(const LinearParams&, const Context&) {
  return fail(Code::unsupported, "linear has no kernel yet");
}
Status qkv_rope_cache(const QkvRopeCacheParams&, const Context&) {
  return fail(Code::unsupported, "qkv_rope_cache has no kernel yet");
}
Status q_rope(const QRopeParams&, const Context&) {
  return fail(Code::unsupported, "q_rope has no kernel yet");
}
Status swiftkv_project(const SwiftkvProjectParams&, const Context&) {
  return fail(Code::unsupported, "swiftkv_project has no kernel yet");
}
Status attention(const AttentionParams&, const Context&) {
  return fail(Code::unsupported, "attention has no kernel yet");
}
Status attention_decode(const AttentionParams&, const Context&) {
  return fail(Code::unsupported, "attention_decode has no kernel yet");
}
Status attention_prefill(const AttentionParams&, const Context&) {
  return fail(Code::unsupported, "attention_prefill has no kernel yet");
}
Status silu_mul(const SiluMulParams&, const Context&) {
  return fail(Code::unsupported, "silu_mul has no kernel yet");
}
Status gather_rows(const GatherRowsParams&, const Context&) {
  return fail(Code::unsupported, "gather_rows has no kernel yet");
}
Status logprobs(const LogprobsParams&, const Context&) {
  return fail(Code::unsupported, "logprobs has no kernel yet");
}
Status sample(const SampleParams&, const Context&) {
  return fail(Code::unsupported, "sample has no kernel yet");
}
Status kv_quantize(const KvQuantizeParams&, const Context&) {
  return fail(Code::unsupported, "kv_quantize has no kernel yet");
}
Status kv_dequantize(const KvDequantizeParams&, const Context&) {
  return fail(Code::unsupported, "kv_dequantize has no kernel yet");
}
Status copy_blocks(const CopyBlocksParams&, const Context&) {
  return fail(Code::unsupported, "copy_blocks has no kernel yet");
}
Status quantize_rows(const QuantizeRowsParams&, const Context&) {
  return fail(Code::unsupported, "quantize_rows has no kernel yet");
}
Status rope_table(const RopeTableParams&, const Context&) {
  return fail(Code::unsupported, "rope_table has no kernel yet");
}
Status copy_rows(const CopyRowsParams&, const Context&) {
  return fail(Code::unsupported, "copy_rows has no kernel yet");
}
size_t linear_scratch(const LinearParams&, const DeviceLimits&) {
  return 0;
}
size_t qkv_rope_cache_scratch(const QkvRopeCacheParams&, const DeviceLimits&) {
  return 0;
}
size_t q_rope_scratch(const QRopeParams&, const DeviceLimits&) {
  return 0;
}
size_t swiftkv_project_scratch(const SwiftkvProjectParams&, const DeviceLimits&) {
  return 0;
}
size_t attention_scratch(const AttentionParams&, const DeviceLimits&) {
  return 0;
}
size_t logprobs_scratch(const LogprobsParams&, const DeviceLimits&) {
  return 0;
}
size_t sample_scratch(const SampleParams&, const DeviceLimits&) {
  return 0;
}

}  // namespace swiftkv::cuda
