// From a bound op of training to its params struct. Internal to the registry.
#pragma once

#include "core/op_fill.h"
#include "core/train_op_specs.h"

namespace swiftkv {

inline void fill(const BoundOp& op, CastRowsParams& p) {
  using namespace fill_from;
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .in = pointer<float>(op, specs::at(specs::kCastRows, "in")),
       .out = activation(op, specs::at(specs::kCastRows, "out"))};
}

inline void fill(const BoundOp& op, RmsNormBackwardParams& p) {
  using namespace fill_from;
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .x = pointer<float>(op, specs::at(specs::kRmsNormBackward, "x")),
       .w = pointer<float>(op, specs::at(specs::kRmsNormBackward, "w")),
       .eps = attr(op, 0),
       .dout = pointer<float>(op, specs::at(specs::kRmsNormBackward, "dout")),
       .dx = pointer<float>(op, specs::at(specs::kRmsNormBackward, "dx")),
       .dw = pointer<float>(op, specs::at(specs::kRmsNormBackward, "dw"))};
}

inline void fill(const BoundOp& op, LinearBackwardParams& p) {
  using namespace fill_from;
  p = {.rows = op.rows(),
       .n = op.size(Sym::n),
       .k = op.size(Sym::k),
       .a = activation(op, specs::at(specs::kLinearBackward, "a")),
       .dy = activation(op, specs::at(specs::kLinearBackward, "dy")),
       .dw = pointer<float>(op, specs::at(specs::kLinearBackward, "dw")),
       .dbias = pointer<float>(op, specs::at(specs::kLinearBackward, "dbias"))};
}

inline void fill(const BoundOp& op, AttentionBackwardParams& p) {
  using namespace fill_from;
  using specs::kAttentionBackward;
  p = {.half = {.rows = op.rows(),
                .num_seqs = narrow(op, Sym::B),
                .positions = pointer<int32_t>(op, specs::at(kAttentionBackward, "positions")),
                .query_start = pointer<int32_t>(op, specs::at(kAttentionBackward, "queryStart")),
                .context_len = pointer<int32_t>(op, specs::at(kAttentionBackward, "contextLen")),
                .table_row = pointer<int32_t>(op, specs::at(kAttentionBackward, "tableRow")),
                .block_tables = pointer<int32_t>(op, specs::at(kAttentionBackward, "blockTables")),
                .table_stride = narrow(op, Sym::stride)},
       .num_heads = narrow(op, Sym::Hq),
       .q = activation(op, specs::at(kAttentionBackward, "q")),
       .cache = kv_cache(op, specs::at(kAttentionBackward, "cache")),
       .scale = attr(op, 0),
       .o = activation(op, specs::at(kAttentionBackward, "o")),
       .dout = pointer<float>(op, specs::at(kAttentionBackward, "dout")),
       .dq = pointer<float>(op, specs::at(kAttentionBackward, "dq")),
       .dkv = pointer<float>(op, specs::at(kAttentionBackward, "dkv")),
       .dkv_width = op.size(Sym::k),
       .group = static_cast<int32_t>(op.attrs[1]),
       .accumulate = op.attrs[2] != 0};
}

inline void fill(const BoundOp& op, RopeBackwardParams& p) {
  using namespace fill_from;
  using specs::kRopeBackward;
  const bool q = tensor(op, specs::at(kRopeBackward, "dq")) != nullptr;
  const bool kv = tensor(op, specs::at(kRopeBackward, "dkv")) != nullptr;
  const int64_t group = 2 * op.size(Sym::Hk) * op.size(Sym::hd);
  p = {.rows = op.rows(),
       .num_heads = q ? narrow(op, Sym::Hq) : 0,
       .num_groups = kv ? static_cast<int32_t>(op.size(Sym::k) / group) : 0,
       .num_kv_heads = narrow(op, Sym::Hk),
       .head_dim = narrow(op, Sym::hd),
       .rope = pointer<float>(op, specs::at(kRopeBackward, "rope")),
       .positions = pointer<int32_t>(op, specs::at(kRopeBackward, "positions")),
       .dq = pointer<float>(op, specs::at(kRopeBackward, "dq")),
       .dkv = pointer<float>(op, specs::at(kRopeBackward, "dkv")),
       .out = activation(op, specs::at(kRopeBackward, "out"))};
}

inline void fill(const BoundOp& op, SiluMulBackwardParams& p) {
  using namespace fill_from;
  p = {.rows = op.rows(),
       .ff = op.size(Sym::ff),
       .gate_up = activation(op, specs::at(specs::kSiluMulBackward, "gateUp")),
       .dout = pointer<float>(op, specs::at(specs::kSiluMulBackward, "dout")),
       .dgate_up = activation(op, specs::at(specs::kSiluMulBackward, "dGateUp"))};
}

inline void fill(const BoundOp& op, DistillHeadParams& p) {
  using namespace fill_from;
  using specs::kDistillHead;
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .vocab = op.size(Sym::V),
       .student = activation(op, specs::at(kDistillHead, "student")),
       .teacher = activation(op, specs::at(kDistillHead, "teacher")),
       .w = matrix(op, specs::at(kDistillHead, "w")),
       .wt = matrix(op, specs::at(kDistillHead, "wt")),
       .weights = pointer<float>(op, specs::at(kDistillHead, "weights")),
       .temperature = attr(op, 0),
       .loss = pointer<float>(op, specs::at(kDistillHead, "loss")),
       .dstudent = pointer<float>(op, specs::at(kDistillHead, "dStudent"))};
}

inline void fill(const BoundOp& op, CrossEntropyHeadParams& p) {
  using namespace fill_from;
  using specs::kCrossEntropyHead;
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .vocab = op.size(Sym::V),
       .a = activation(op, specs::at(kCrossEntropyHead, "a")),
       .ids = pointer<int32_t>(op, specs::at(kCrossEntropyHead, "ids")),
       .w = matrix(op, specs::at(kCrossEntropyHead, "w")),
       .wt = matrix(op, specs::at(kCrossEntropyHead, "wt")),
       .weights = pointer<float>(op, specs::at(kCrossEntropyHead, "weights")),
       .loss = pointer<float>(op, specs::at(kCrossEntropyHead, "loss")),
       .da = pointer<float>(op, specs::at(kCrossEntropyHead, "da")),
       .dw = pointer<float>(op, specs::at(kCrossEntropyHead, "dw"))};
}

inline void fill(const BoundOp& op, MseParams& p) {
  using namespace fill_from;
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .x = pointer<float>(op, specs::at(specs::kMse, "x")),
       .target = pointer<float>(op, specs::at(specs::kMse, "target")),
       .weights = pointer<float>(op, specs::at(specs::kMse, "weights")),
       .loss = pointer<float>(op, specs::at(specs::kMse, "loss")),
       .dx = pointer<float>(op, specs::at(specs::kMse, "dx"))};
}

inline void fill(const BoundOp& op, EmbedBackwardParams& p) {
  using namespace fill_from;
  p = {.rows = op.rows(),
       .dim = op.size(Sym::d),
       .vocab = op.size(Sym::V),
       .ids = pointer<int32_t>(op, specs::at(specs::kEmbedBackward, "ids")),
       .dx = pointer<float>(op, specs::at(specs::kEmbedBackward, "dx")),
       .dtable = pointer<float>(op, specs::at(specs::kEmbedBackward, "dTable"))};
}

inline void fill(const BoundOp& op, SumSquaresParams& p) {
  using namespace fill_from;
  p = {.rows = op.rows(),
       .x = pointer<float>(op, specs::at(specs::kSumSquares, "x")),
       .out = pointer<float>(op, specs::at(specs::kSumSquares, "out"))};
}

inline void fill(const BoundOp& op, AdamwParams& p) {
  using namespace fill_from;
  using specs::kAdamw;
  p = {.rows = op.rows(),
       .hyper = pointer<float>(op, specs::at(kAdamw, "hyper")),
       .squares = pointer<float>(op, specs::at(kAdamw, "squares")),
       .grad = pointer<float>(op, specs::at(kAdamw, "grad")),
       .m = pointer<float>(op, specs::at(kAdamw, "m")),
       .v = pointer<float>(op, specs::at(kAdamw, "v")),
       .x = pointer<float>(op, specs::at(kAdamw, "x"))};
}

inline void fill(const BoundOp& op, PackWeightParams& p) {
  using namespace fill_from;
  using specs::kPackWeight;
  const bool both = tensor(op, specs::at(kPackWeight, "transposed")) != nullptr;
  p = {.rows = op.rows(),
       .k = op.size(Sym::k),
       .src = pointer<float>(op, specs::at(kPackWeight, "src")),
       .dst = matrix(op, specs::at(kPackWeight, "dst")),
       .transposed = both ? matrix(op, specs::at(kPackWeight, "transposed")) : Matrix{}};
}

}  // namespace swiftkv
