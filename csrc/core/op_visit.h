// The visitor over op kinds: the one switch that turns a run-time OpKind into a type.
#pragma once

#include <string>
#include <type_traits>
#include <utility>

#include "core/ops.h"
#include "core/status.h"
#include "core/train_ops.h"

namespace swiftkv {

template <OpKind K>
struct Op;

template <OpKind K, class P>
struct OpBase {
  static constexpr OpKind kind = K;
  using Params = P;
};

template <>
struct Op<OpKind::embed> : OpBase<OpKind::embed, EmbedParams> {};
template <>
struct Op<OpKind::rms_norm> : OpBase<OpKind::rms_norm, RmsNormParams> {};
template <>
struct Op<OpKind::linear> : OpBase<OpKind::linear, LinearParams> {};
template <>
struct Op<OpKind::qkv_rope_cache> : OpBase<OpKind::qkv_rope_cache, QkvRopeCacheParams> {};
template <>
struct Op<OpKind::q_rope> : OpBase<OpKind::q_rope, QRopeParams> {};
template <>
struct Op<OpKind::swiftkv_project> : OpBase<OpKind::swiftkv_project, SwiftkvProjectParams> {};
template <>
struct Op<OpKind::attention> : OpBase<OpKind::attention, AttentionParams> {};
template <>
struct Op<OpKind::attention_decode> : OpBase<OpKind::attention_decode, AttentionParams> {};
template <>
struct Op<OpKind::attention_prefill> : OpBase<OpKind::attention_prefill, AttentionParams> {};
template <>
struct Op<OpKind::silu_mul> : OpBase<OpKind::silu_mul, SiluMulParams> {};
template <>
struct Op<OpKind::gather_rows> : OpBase<OpKind::gather_rows, GatherRowsParams> {};
template <>
struct Op<OpKind::logprobs> : OpBase<OpKind::logprobs, LogprobsParams> {};
template <>
struct Op<OpKind::sample> : OpBase<OpKind::sample, SampleParams> {};
template <>
struct Op<OpKind::kv_quantize> : OpBase<OpKind::kv_quantize, KvQuantizeParams> {};
template <>
struct Op<OpKind::kv_dequantize> : OpBase<OpKind::kv_dequantize, KvDequantizeParams> {};
template <>
struct Op<OpKind::copy_blocks> : OpBase<OpKind::copy_blocks, CopyBlocksParams> {};
template <>
struct Op<OpKind::quantize_rows> : OpBase<OpKind::quantize_rows, QuantizeRowsParams> {};
template <>
struct Op<OpKind::rope_table> : OpBase<OpKind::rope_table, RopeTableParams> {};
template <>
struct Op<OpKind::copy_rows> : OpBase<OpKind::copy_rows, CopyRowsParams> {};
template <>
struct Op<OpKind::cast_rows> : OpBase<OpKind::cast_rows, CastRowsParams> {};
template <>
struct Op<OpKind::rms_norm_backward> : OpBase<OpKind::rms_norm_backward, RmsNormBackwardParams> {};
template <>
struct Op<OpKind::linear_backward> : OpBase<OpKind::linear_backward, LinearBackwardParams> {};
template <>
struct Op<OpKind::attention_backward> : OpBase<OpKind::attention_backward, AttentionBackwardParams> {};
template <>
struct Op<OpKind::rope_backward> : OpBase<OpKind::rope_backward, RopeBackwardParams> {};
template <>
struct Op<OpKind::silu_mul_backward> : OpBase<OpKind::silu_mul_backward, SiluMulBackwardParams> {};
template <>
struct Op<OpKind::distill_head> : OpBase<OpKind::distill_head, DistillHeadParams> {};
template <>
struct Op<OpKind::cross_entropy_head> : OpBase<OpKind::cross_entropy_head, CrossEntropyHeadParams> {};
template <>
struct Op<OpKind::mse> : OpBase<OpKind::mse, MseParams> {};
template <>
struct Op<OpKind::embed_backward> : OpBase<OpKind::embed_backward, EmbedBackwardParams> {};
template <>
struct Op<OpKind::sum_squares> : OpBase<OpKind::sum_squares, SumSquaresParams> {};
template <>
struct Op<OpKind::adamw> : OpBase<OpKind::adamw, AdamwParams> {};
template <>
struct Op<OpKind::pack_weight> : OpBase<OpKind::pack_weight, PackWeightParams> {};

// Calls f(Op<kind>{}). A kind that is no op throws Error.
template <class F>
decltype(auto) visit_op(OpKind kind, F&& f) {
  switch (kind) {
    case OpKind::embed: return f(Op<OpKind::embed>{});
    case OpKind::rms_norm: return f(Op<OpKind::rms_norm>{});
    case OpKind::linear: return f(Op<OpKind::linear>{});
    case OpKind::qkv_rope_cache: return f(Op<OpKind::qkv_rope_cache>{});
    case OpKind::q_rope: return f(Op<OpKind::q_rope>{});
    case OpKind::swiftkv_project: return f(Op<OpKind::swiftkv_project>{});
    case OpKind::attention: return f(Op<OpKind::attention>{});
    case OpKind::attention_decode: return f(Op<OpKind::attention_decode>{});
    case OpKind::attention_prefill: return f(Op<OpKind::attention_prefill>{});
    case OpKind::silu_mul: return f(Op<OpKind::silu_mul>{});
    case OpKind::gather_rows: return f(Op<OpKind::gather_rows>{});
    case OpKind::logprobs: return f(Op<OpKind::logprobs>{});
    case OpKind::sample: return f(Op<OpKind::sample>{});
    case OpKind::kv_quantize: return f(Op<OpKind::kv_quantize>{});
    case OpKind::kv_dequantize: return f(Op<OpKind::kv_dequantize>{});
    case OpKind::copy_blocks: return f(Op<OpKind::copy_blocks>{});
    case OpKind::quantize_rows: return f(Op<OpKind::quantize_rows>{});
    case OpKind::rope_table: return f(Op<OpKind::rope_table>{});
    case OpKind::copy_rows: return f(Op<OpKind::copy_rows>{});
    case OpKind::cast_rows: return f(Op<OpKind::cast_rows>{});
    case OpKind::rms_norm_backward: return f(Op<OpKind::rms_norm_backward>{});
    case OpKind::linear_backward: return f(Op<OpKind::linear_backward>{});
    case OpKind::attention_backward: return f(Op<OpKind::attention_backward>{});
    case OpKind::rope_backward: return f(Op<OpKind::rope_backward>{});
    case OpKind::silu_mul_backward: return f(Op<OpKind::silu_mul_backward>{});
    case OpKind::distill_head: return f(Op<OpKind::distill_head>{});
    case OpKind::cross_entropy_head: return f(Op<OpKind::cross_entropy_head>{});
    case OpKind::mse: return f(Op<OpKind::mse>{});
    case OpKind::embed_backward: return f(Op<OpKind::embed_backward>{});
    case OpKind::sum_squares: return f(Op<OpKind::sum_squares>{});
    case OpKind::adamw: return f(Op<OpKind::adamw>{});
    case OpKind::pack_weight: return f(Op<OpKind::pack_weight>{});
    case OpKind::count: break;
  }
  throw Error(Code::internal, "no op of kind " + std::to_string(static_cast<int>(kind)));
}

}  // namespace swiftkv
