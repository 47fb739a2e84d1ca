// The ops of training as data. Internal to the registry.
#pragma once

#include "core/op_specs.h"

namespace swiftkv::specs {

constexpr OperandSpec update(std::string_view name, std::string_view shape) {
  return {.name = name, .access = Access::update, .dtypes = kF32, .shape = shape};
}
constexpr OperandSpec like(OperandSpec spec, std::string_view other) {
  spec.like = other;
  return spec;
}
// A weight that is trained, or that gradients go through: f32 or bf16 panels.
constexpr OperandSpec float_weight(std::string_view name, std::string_view shape, std::string_view like) {
  return {.name = name, .dtypes = kActivation, .shape = shape, .like = like, .panels = true, .row_major = false};
}
constexpr OperandSpec packed(std::string_view name, std::string_view shape) {
  return {
      .name = name, .access = Access::out, .dtypes = kActivation, .shape = shape, .panels = true, .row_major = false};
}

inline constexpr AttrSpec kAttentionBackwardAttrs[] = {
    {"scale", AttrKind::number, std::nullopt},
    {"group", AttrKind::number, std::nullopt, 0},
    {"accumulate", AttrKind::boolean, std::nullopt, 0},
};
inline constexpr AttrSpec kRopeBackwardAttrs[] = {{"numKvHeads", AttrKind::integer, Sym::Hk}};
inline constexpr AttrSpec kDistillHeadAttrs[] = {{"temperature", AttrKind::number, std::nullopt}};

inline constexpr OperandSpec kCastRows[] = {
    input("in", kF32, "rows, d"),
    output("out", kActivation, "rows, d"),
};

inline constexpr OperandSpec kRmsNormBackward[] = {
    input("x", kF32, "rows, d"), input("w", kF32, "d"),       input("dout", kF32, "rows, d"),
    update("dx", "rows, d"),     optional(update("dw", "d")),
};

inline constexpr OperandSpec kLinearBackward[] = {
    input("a", kActivation, "rows, k"),
    like(input("dy", kActivation, "rows, n"), "a"),
    update("dw", "n, k"),
    optional(update("dbias", "n")),
};

inline constexpr OperandSpec kAttentionBackward[] = {
    {.name = "cache", .kind = OperandKind::cache, .access = Access::in, .dtypes = kActivation},
    input("q", kActivation, "rows, Hq, hd"),
    index("positions", "rows", IndexRole::position),
    index("contextLen", "B", IndexRole::context_len),
    index("queryStart", "B + 1", IndexRole::query_start),
    index("tableRow", "B", IndexRole::table_row),
    index("blockTables", "tables, stride", IndexRole::block_table),
    input("o", kActivation, "rows, Hq*hd"),
    input("dout", kF32, "rows, Hq*hd"),
    output("dq", kF32, "rows, Hq, hd"),
    update("dkv", "rows, k"),
};

inline constexpr OperandSpec kRopeBackward[] = {
    input("rope", kF32, "P, hd"),
    index("positions", "rows", IndexRole::position),
    optional(input("dq", kF32, "rows, Hq, hd")),
    optional(input("dkv", kF32, "rows, k")),
    output("out", kActivation, "rows, n"),
};

inline constexpr OperandSpec kSiluMulBackward[] = {
    input("dout", kF32, "rows, ff"),
    input("gateUp", kActivation, "rows, 2*ff"),
    output("dGateUp", kActivation, "rows, 2*ff"),
};

inline constexpr OperandSpec kDistillHead[] = {
    input("student", kActivation, "rows, d"), like(input("teacher", kActivation, "rows, d"), "student"),
    float_weight("w", "V, d", "student"),     float_weight("wt", "d, V", "student"),
    input("weights", kF32, "rows"),           output("loss", kF32, "rows"),
    output("dStudent", kF32, "rows, d"),
};

inline constexpr OperandSpec kCrossEntropyHead[] = {
    input("a", kActivation, "rows, d"),     float_weight("w", "V, d", "a"), float_weight("wt", "d, V", "a"),
    index("ids", "rows", IndexRole::token), input("weights", kF32, "rows"), output("loss", kF32, "rows"),
    output("da", kF32, "rows, d"),          optional(update("dw", "V, d")),
};

inline constexpr OperandSpec kMse[] = {
    input("x", kF32, "rows, d"),  input("target", kF32, "rows, d"), input("weights", kF32, "rows"),
    output("loss", kF32, "rows"), update("dx", "rows, d"),
};

inline constexpr OperandSpec kEmbedBackward[] = {
    update("dTable", "V, d"),
    index("ids", "rows", IndexRole::token),
    input("dx", kF32, "rows, d"),
};

inline constexpr OperandSpec kSumSquares[] = {
    input("x", kF32, "rows"),
    output("out", kF32, "1"),
};

inline constexpr OperandSpec kAdamw[] = {
    input("hyper", kF32, "8"), input("squares", kF32, "1"), update("grad", "rows"),
    update("m", "rows"),       update("v", "rows"),         update("x", "rows"),
};

inline constexpr OperandSpec kPackWeight[] = {
    input("src", kF32, "rows, k"),
    packed("dst", "rows, k"),
    optional(like(packed("transposed", "k, rows"), "dst")),
};

}  // namespace swiftkv::specs
