// Ops by kind and by name.
#include "core/op_specs.h"

#include "core/train_op_specs.h"

namespace swiftkv {
namespace {

using namespace specs;

// In the order of OpKind.
constexpr OpSpec kSpecs[] = {
    {OpKind::embed, "embed", kEmbed, {}},
    {OpKind::rms_norm, "rms_norm", kRmsNorm, kEps},
    {OpKind::linear, "linear", kLinear, kLinearAttrs},
    {OpKind::qkv_rope_cache, "qkv_rope_cache", kQkvRopeCache, kQkvAttrs},
    {OpKind::q_rope, "q_rope", kQRope, kQRopeAttrs},
    {OpKind::swiftkv_project, "swiftkv_project", kSwiftkvProject, kSwiftkvProjectAttrs},
    {OpKind::attention, "attention", kAttention, kScale},
    {OpKind::attention_decode, "attention_decode", kAttention, kScale},
    {OpKind::attention_prefill, "attention_prefill", kAttention, kScale},
    {OpKind::silu_mul, "silu_mul", kSiluMul, {}},
    {OpKind::gather_rows, "gather_rows", kGatherRows, {}},
    {OpKind::logprobs, "logprobs", kLogprobs, {}},
    {OpKind::sample, "sample", kSample, {}},
    {OpKind::kv_quantize, "kv_quantize", kKvQuantize, {}},
    {OpKind::kv_dequantize, "kv_dequantize", kKvDequantize, {}},
    {OpKind::copy_blocks, "copy_blocks", kCopyBlocks, {}},
    {OpKind::quantize_rows, "quantize_rows", kQuantizeRows, {}},
    {OpKind::rope_table, "rope_table", kRopeTable, {}},
    {OpKind::copy_rows, "copy_rows", kCopyRows, {}},
    {OpKind::cast_rows, "cast_rows", kCastRows, {}},
    {OpKind::rms_norm_backward, "rms_norm_backward", kRmsNormBackward, kEps},
    {OpKind::linear_backward, "linear_backward", kLinearBackward, {}},
    {OpKind::attention_backward, "attention_backward", kAttentionBackward, kAttentionBackwardAttrs},
    {OpKind::rope_backward, "rope_backward", kRopeBackward, kRopeBackwardAttrs},
    {OpKind::silu_mul_backward, "silu_mul_backward", kSiluMulBackward, {}},
    {OpKind::distill_head, "distill_head", kDistillHead, kDistillHeadAttrs},
    {OpKind::cross_entropy_head, "cross_entropy_head", kCrossEntropyHead, {}},
    {OpKind::mse, "mse", kMse, {}},
    {OpKind::embed_backward, "embed_backward", kEmbedBackward, {}},
    {OpKind::sum_squares, "sum_squares", kSumSquares, {}},
    {OpKind::adamw, "adamw", kAdamw, {}},
    {OpKind::pack_weight, "pack_weight", kPackWeight, {}},
};
static_assert(std::size(kSpecs) == kOpCount);

}  // namespace

const OpSpec& op_spec(OpKind kind) {
  if (kind < OpKind{} || kind >= OpKind::count) {
    throw Error(Code::internal, "no op of kind " + std::to_string(static_cast<int>(kind)));
  }
  return kSpecs[static_cast<size_t>(kind)];
}

std::optional<OpKind> find_op(std::string_view name) {
  for (const OpSpec& spec : kSpecs) {
    if (spec.name == name) return spec.kind;
  }
  return std::nullopt;
}

std::string_view op_name(OpKind kind) {
  return op_spec(kind).name;
}

}  // namespace swiftkv
