// From a bound op to its params struct: one fill function per struct, overloaded.
#include "core/op_fill.h"
#include "core/op_specs.h"
#include "core/train_op_fill.h"

namespace swiftkv {
namespace {

using namespace fill_from;
using namespace specs;

void fill(const BoundOp& op, EmbedParams& p) {
  p = {.rows = op.rows(),
       .ids = pointer<int32_t>(op, at(kEmbed, "ids")),
       .table = matrix(op, at(kEmbed, "table")),
       .x = pointer<float>(op, at(kEmbed, "x"))};
}

void fill(const BoundOp& op, RmsNormParams& p) {
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .x = pointer<float>(op, at(kRmsNorm, "x")),
       .w = pointer<float>(op, at(kRmsNorm, "w")),
       .eps = attr(op, 0),
       .out = activation(op, at(kRmsNorm, "out"))};
}

void fill(const BoundOp& op, LinearParams& p) {
  p = {.rows = op.rows(),
       .a = activation(op, at(kLinear, "a")),
       .w = matrix(op, at(kLinear, "w")),
       .bias = pointer<float>(op, at(kLinear, "bias")),
       .accumulate = op.attrs[0] != 0,
       .y = activation(op, at(kLinear, "y")),
       .fp8_activations = op.attrs[1] != 0};
}

void fill(const BoundOp& op, QkvRopeCacheParams& p) {
  p = {.rows = op.rows(),
       .num_heads = narrow(op, Sym::Hq),
       .num_kv_heads = narrow(op, Sym::Hk),
       .head_dim = narrow(op, Sym::hd),
       .a = activation(op, at(kQkvRopeCache, "a")),
       .w = matrix(op, at(kQkvRopeCache, "w")),
       .bias = pointer<float>(op, at(kQkvRopeCache, "bias")),
       .rope = pointer<float>(op, at(kQkvRopeCache, "rope")),
       .positions = pointer<int32_t>(op, at(kQkvRopeCache, "positions")),
       .slots = pointer<int32_t>(op, at(kQkvRopeCache, "slots")),
       .q = activation(op, at(kQkvRopeCache, "q")),
       .cache = kv_cache(op, at(kQkvRopeCache, "cache")),
       .fp8_activations = op.attrs[1] != 0,
       .q_norm = pointer<float>(op, at(kQkvRopeCache, "qNorm")),
       .k_norm = pointer<float>(op, at(kQkvRopeCache, "kNorm")),
       .eps = attr(op, 2)};
}

void fill(const BoundOp& op, QRopeParams& p) {
  p = {.rows = op.rows(),
       .num_heads = narrow(op, Sym::Hq),
       .head_dim = narrow(op, Sym::hd),
       .a = activation(op, at(kQRope, "a")),
       .w = matrix(op, at(kQRope, "w")),
       .bias = pointer<float>(op, at(kQRope, "bias")),
       .rope = pointer<float>(op, at(kQRope, "rope")),
       .positions = pointer<int32_t>(op, at(kQRope, "positions")),
       .q = activation(op, at(kQRope, "q")),
       .fp8_activations = op.attrs[0] != 0,
       .q_norm = pointer<float>(op, at(kQRope, "qNorm")),
       .eps = attr(op, 1)};
}

void fill(const BoundOp& op, SwiftkvProjectParams& p) {
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .num_groups = narrow(op, Sym::groups),
       .num_kv_heads = narrow(op, Sym::Hk),
       .head_dim = narrow(op, Sym::hd),
       .x = pointer<float>(op, at(kSwiftkvProject, "x")),
       .norm = pointer<float>(op, at(kSwiftkvProject, "norm")),
       .eps = attr(op, 0),
       .w = matrix(op, at(kSwiftkvProject, "w")),
       .bias = pointer<float>(op, at(kSwiftkvProject, "bias")),
       .rope = pointer<float>(op, at(kSwiftkvProject, "rope")),
       .positions = pointer<int32_t>(op, at(kSwiftkvProject, "positions")),
       .slots = pointer<int32_t>(op, at(kSwiftkvProject, "slots")),
       .caches = std::get<CacheListView>(op.operands[at(kSwiftkvProject, "caches")]).caches,
       .fp8_activations = op.attrs[1] != 0,
       .bf16_activations = op.attrs[2] != 0,
       .k_norm = pointer<float>(op, at(kSwiftkvProject, "kNorm"))};
}

void fill(const BoundOp& op, AttentionParams& p) {
  p = {.half = {.rows = op.rows(),
                .num_seqs = narrow(op, Sym::B),
                .positions = pointer<int32_t>(op, at(kAttention, "positions")),
                .query_start = pointer<int32_t>(op, at(kAttention, "queryStart")),
                .context_len = pointer<int32_t>(op, at(kAttention, "contextLen")),
                .table_row = pointer<int32_t>(op, at(kAttention, "tableRow")),
                .block_tables = pointer<int32_t>(op, at(kAttention, "blockTables")),
                .table_stride = narrow(op, Sym::stride)},
       .select = QuerySelect::all,
       .num_heads = narrow(op, Sym::Hq),
       .q = activation(op, at(kAttention, "q")),
       .cache = kv_cache(op, at(kAttention, "cache")),
       .scale = attr(op, 0),
       .o = activation(op, at(kAttention, "o"))};
}

void fill(const BoundOp& op, SiluMulParams& p) {
  p = {.rows = op.rows(),
       .ff = op.size(Sym::ff),
       .gate_up = activation(op, at(kSiluMul, "gateUp")),
       .out = activation(op, at(kSiluMul, "out"))};
}

void fill(const BoundOp& op, GatherRowsParams& p) {
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .x = pointer<float>(op, at(kGatherRows, "x")),
       .index = pointer<int32_t>(op, at(kGatherRows, "index")),
       .out = pointer<float>(op, at(kGatherRows, "out"))};
}

void fill(const BoundOp& op, LogprobsParams& p) {
  p = {.rows = op.rows(),
       .vocab = op.size(Sym::V),
       .top_k = narrow(op, Sym::top),
       .index = pointer<int32_t>(op, at(kLogprobs, "rows")),
       .logits = pointer<float>(op, at(kLogprobs, "logits")),
       .ids = pointer<int32_t>(op, at(kLogprobs, "ids")),
       .chosen = pointer<float>(op, at(kLogprobs, "chosen")),
       .rank = pointer<int32_t>(op, at(kLogprobs, "rank")),
       .top_ids = pointer<int32_t>(op, at(kLogprobs, "topIds")),
       .top_logprobs = pointer<float>(op, at(kLogprobs, "topLogprobs"))};
}

void fill(const BoundOp& op, SampleParams& p) {
  p = {.rows = op.rows(),
       .vocab = op.size(Sym::V),
       .logits = pointer<float>(op, at(kSample, "logits")),
       .samplers = std::get<SamplersView>(op.operands[at(kSample, "samplers")]).slots,
       .slots = pointer<int32_t>(op, at(kSample, "slots")),
       .output_positions = pointer<int32_t>(op, at(kSample, "outputPositions")),
       .forced_ids = pointer<int32_t>(op, at(kSample, "forcedIds")),
       .bitmask = pointer<uint32_t>(op, at(kSample, "bitmask")),
       .mask_rows = pointer<int32_t>(op, at(kSample, "maskRows")),
       .ids = pointer<int32_t>(op, at(kSample, "ids"))};
}

void fill(const BoundOp& op, KvQuantizeParams& p) {
  p = {.rows = op.rows(),
       .k = pointer<float>(op, at(kKvQuantize, "k")),
       .v = pointer<float>(op, at(kKvQuantize, "v")),
       .slots = pointer<int32_t>(op, at(kKvQuantize, "slots")),
       .cache = kv_cache(op, at(kKvQuantize, "cache"))};
}

void fill(const BoundOp& op, KvDequantizeParams& p) {
  p = {.rows = op.rows(),
       .slots = pointer<int32_t>(op, at(kKvDequantize, "slots")),
       .cache = kv_cache(op, at(kKvDequantize, "cache")),
       .k = pointer<float>(op, at(kKvDequantize, "k")),
       .v = pointer<float>(op, at(kKvDequantize, "v"))};
}

void fill(const BoundOp& op, CopyBlocksParams& p) {
  const auto& list = std::get<CacheListView>(op.operands[at(kCopyBlocks, "caches")]);
  p = {.pairs = op.rows(),
       .from = pointer<int32_t>(op, at(kCopyBlocks, "from")),
       .to = pointer<int32_t>(op, at(kCopyBlocks, "to")),
       .caches = list.caches,
       .num_caches = list.count};
}

void fill(const BoundOp& op, QuantizeRowsParams& p) {
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .a = activation(op, at(kQuantizeRows, "a")),
       .codes = pointer<uint8_t>(op, at(kQuantizeRows, "codes")),
       .scales = pointer<float>(op, at(kQuantizeRows, "scales"))};
}

void fill(const BoundOp& op, RopeTableParams& p) {
  p = {.positions = op.rows(),
       .head_dim = narrow(op, Sym::hd),
       .inv_freq = pointer<float>(op, at(kRopeTable, "invFreq")),
       .table = pointer<float>(op, at(kRopeTable, "table"))};
}

void fill(const BoundOp& op, CopyRowsParams& p) {
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .in = activation(op, at(kCopyRows, "in")),
       .out = pointer<float>(op, at(kCopyRows, "out"))};
}

}  // namespace

OpParams make_params(const BoundOp& op) {
  return visit_op(op.kind, [&](auto tag) -> OpParams {
    typename decltype(tag)::Params params = {};
    fill(op, params);
    return params;
  });
}

const void* params_data(const OpParams& params) {
  return std::visit([](const auto& p) -> const void* { return &p; }, params);
}

}  // namespace swiftkv
