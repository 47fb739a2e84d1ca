// The op table as data. Operands stand in binding order: a symbol's first appearance is alone in its dimension.
// Internal to the registry.
#pragma once

#include "core/op_registry.h"

namespace swiftkv::specs {

inline constexpr uint32_t bit(DType t) {
  return 1u << static_cast<int>(t);
}
inline constexpr uint32_t kF32 = bit(DType::f32);
inline constexpr uint32_t kI32 = bit(DType::i32);
inline constexpr uint32_t kU8 = bit(DType::u8);
inline constexpr uint32_t kActivation = kF32 | bit(DType::bf16);
inline constexpr uint32_t kQuantized = bit(DType::fp8_e4m3) | bit(DType::int8) | bit(DType::int4);
inline constexpr uint32_t kTable = kActivation | bit(DType::f16) | kQuantized;
inline constexpr uint32_t kCache = kActivation | bit(DType::fp8_e4m3);

constexpr OperandSpec input(std::string_view name, uint32_t dtypes, std::string_view shape) {
  return {.name = name, .dtypes = dtypes, .shape = shape};
}
constexpr OperandSpec output(std::string_view name, uint32_t dtypes, std::string_view shape) {
  return {.name = name, .access = Access::out, .dtypes = dtypes, .shape = shape};
}
constexpr OperandSpec index(std::string_view name, std::string_view shape, IndexRole role) {
  return {.name = name, .dtypes = kI32, .shape = shape, .role = role};
}
constexpr OperandSpec optional(OperandSpec spec) {
  spec.optional = true;
  return spec;
}
// A weight in the backend's packed layout, of the dtype of the activation it meets or quantized.
constexpr OperandSpec weight(std::string_view name, std::string_view shape, std::string_view like) {
  return {.name = name,
          .dtypes = kActivation | kQuantized,
          .shape = shape,
          .like = like,
          .panels = true,
          .row_major = false};
}
constexpr OperandSpec cache(Access access) {
  return {.name = "cache", .kind = OperandKind::cache, .access = access, .dtypes = kCache};
}
constexpr OperandSpec caches(bool uniform) {
  return {
      .name = "caches", .kind = OperandKind::caches, .access = Access::update, .dtypes = kCache, .uniform = uniform};
}

inline constexpr AttrSpec kFp8Activations = {"fp8Activations", AttrKind::boolean, std::nullopt, 0};
// Of the norms of heads; 0 stands for none and is refused with them.
inline constexpr AttrSpec kHeadEps = {"eps", AttrKind::number, std::nullopt, 0};
inline constexpr AttrSpec kEps[] = {{"eps", AttrKind::number, std::nullopt}};
inline constexpr AttrSpec kScale[] = {{"scale", AttrKind::number, std::nullopt}};
inline constexpr AttrSpec kLinearAttrs[] = {{"accumulate", AttrKind::boolean, std::nullopt}, kFp8Activations};
inline constexpr AttrSpec kQkvAttrs[] = {{"numHeads", AttrKind::integer, Sym::Hq}, kFp8Activations, kHeadEps};
inline constexpr AttrSpec kQRopeAttrs[] = {kFp8Activations, kHeadEps};
// bf16Activations: the type of the normalised rows that meet fp8 weights; other weights decide it themselves.
inline constexpr AttrSpec kSwiftkvProjectAttrs[] = {
    {"eps", AttrKind::number, std::nullopt},
    kFp8Activations,
    {"bf16Activations", AttrKind::boolean, std::nullopt, 0},
};

inline constexpr OperandSpec kEmbed[] = {
    index("ids", "rows", IndexRole::token),
    {.name = "table", .dtypes = kTable, .shape = "V, d", .panels = true},
    output("x", kF32, "rows, d"),
};

inline constexpr OperandSpec kRmsNorm[] = {
    input("x", kF32, "rows, d"),
    input("w", kF32, "d"),
    output("out", kActivation, "rows, d"),
};

inline constexpr OperandSpec kLinear[] = {
    input("a", kActivation, "rows, k"),
    weight("w", "n, k", "a"),
    optional(input("bias", kF32, "n")),
    {.name = "y", .access = Access::update, .dtypes = kActivation, .shape = "rows, n"},
};

inline constexpr OperandSpec kQkvRopeCache[] = {
    cache(Access::update),
    input("a", kActivation, "rows, d"),
    weight("w", "(Hq + 2*Hk)*hd, d", "a"),
    optional(input("bias", kF32, "(Hq + 2*Hk)*hd")),
    optional(input("qNorm", kF32, "hd")),
    optional(input("kNorm", kF32, "hd")),
    input("rope", kF32, "P, hd"),
    index("positions", "rows", IndexRole::position),
    index("slots", "rows", IndexRole::slot),
    output("q", kActivation, "rows, Hq, hd"),
};

inline constexpr OperandSpec kQRope[] = {
    output("q", kActivation, "rows, Hq, hd"),        input("a", kActivation, "rows, d"),   weight("w", "Hq*hd, d", "a"),
    optional(input("bias", kF32, "Hq*hd")),          optional(input("qNorm", kF32, "hd")), input("rope", kF32, "P, hd"),
    index("positions", "rows", IndexRole::position),
};

inline constexpr OperandSpec kSwiftkvProject[] = {
    caches(true),
    input("x", kF32, "rows, d"),
    input("norm", kF32, "d"),
    weight("w", "groups*2*Hk*hd, d", ""),
    optional(input("bias", kF32, "groups*2*Hk*hd")),
    optional(input("kNorm", kF32, "groups, hd")),
    input("rope", kF32, "P, hd"),
    index("positions", "rows", IndexRole::position),
    index("slots", "rows", IndexRole::slot),
};

inline constexpr OperandSpec kAttention[] = {
    cache(Access::in),
    input("q", kActivation, "rows, Hq, hd"),
    index("positions", "rows", IndexRole::position),
    index("contextLen", "B", IndexRole::context_len),
    index("queryStart", "B + 1", IndexRole::query_start),
    index("tableRow", "B", IndexRole::table_row),
    index("blockTables", "tables, stride", IndexRole::block_table),
    output("o", kActivation, "rows, Hq*hd"),
};

inline constexpr OperandSpec kSiluMul[] = {
    output("out", kActivation, "rows, ff"),
    input("gateUp", kActivation, "rows, 2*ff"),
};

inline constexpr OperandSpec kGatherRows[] = {
    input("x", kF32, "src, d"),
    index("index", "rows", IndexRole::row),
    output("out", kF32, "rows, d"),
};

inline constexpr OperandSpec kLogprobs[] = {
    input("logits", kF32, "src, V"),
    index("ids", "src", IndexRole::none),
    optional(index("rows", "rows", IndexRole::row)),
    output("chosen", kF32, "rows"),
    output("rank", kI32, "rows"),
    optional(output("topIds", kI32, "rows, top")),
    optional(output("topLogprobs", kF32, "rows, top")),
};

inline constexpr OperandSpec kSample[] = {
    input("logits", kF32, "rows, V"),
    {.name = "samplers", .kind = OperandKind::samplers, .access = Access::update},
    index("slots", "rows", IndexRole::sampler_slot),
    index("outputPositions", "rows", IndexRole::output_position),
    optional(index("forcedIds", "rows", IndexRole::forced_token)),
    optional(input("bitmask", kI32, "masks, V/32")),
    optional(index("maskRows", "rows", IndexRole::mask_row)),
    output("ids", kI32, "rows"),
};

inline constexpr OperandSpec kKvQuantize[] = {
    cache(Access::update),
    input("k", kF32, "rows, Hk, hd"),
    input("v", kF32, "rows, Hk, hd"),
    index("slots", "rows", IndexRole::slot),
};

inline constexpr OperandSpec kKvDequantize[] = {
    cache(Access::in),
    index("slots", "rows", IndexRole::source_slot),
    output("k", kF32, "rows, Hk, hd"),
    output("v", kF32, "rows, Hk, hd"),
};

inline constexpr OperandSpec kCopyBlocks[] = {
    index("from", "rows", IndexRole::block),
    index("to", "rows", IndexRole::block),
    caches(false),
};

inline constexpr OperandSpec kQuantizeRows[] = {
    input("a", kActivation, "rows, d"),
    output("codes", kU8, "rows, d"),
    output("scales", kF32, "rows"),
};

inline constexpr OperandSpec kRopeTable[] = {
    output("table", kF32, "rows, hd"),
    input("invFreq", kF32, "hd/2"),
};

inline constexpr OperandSpec kCopyRows[] = {
    input("in", kActivation, "rows, d"),
    output("out", kF32, "rows, d"),
};

// The place of an operand in its spec, found at compile time.
template <size_t N>
consteval size_t at(const OperandSpec (&operands)[N], std::string_view name) {
  for (size_t i = 0; i < N; ++i) {
    if (operands[i].name == name) return i;
  }
  throw "no operand of this name";
}

}  // namespace swiftkv::specs
