// Every op's contract as data, and the matcher that holds operands against it.
//
// A spec names its operands, their dtypes and their shapes in symbols ("rows, (Hq + 2*Hk)*hd"). bind_op() binds the
// symbols in the order of the spec, checks the rest against them and writes the error text itself. make_params() then
// fills the op's params struct; it allocates nothing, so a program binds once and only refreshes counts and pointers.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "core/index_role.h"
#include "core/op_visit.h"
#include "core/operands.h"

namespace swiftkv {

// Symbols of shapes, spelled the same in the specs.
enum class Sym : int32_t {
  rows,
  d,
  n,
  k,
  Hq,
  Hk,
  hd,
  ff,
  V,
  P,
  B,
  NB,
  tables,
  stride,
  src,
  top,
  groups,
  slots,
  masks,
  count
};
inline constexpr int kSymCount = static_cast<int>(Sym::count);

enum class OperandKind : int32_t { tensor, cache, caches, samplers };
enum class Access : int32_t { in, out, update };  // update: read and written

struct OperandSpec {
  std::string_view name;
  OperandKind kind = OperandKind::tensor;
  Access access = Access::in;
  bool optional = false;
  uint32_t dtypes = 0;          // bit (1 << DType); of the elements of caches too
  std::string_view shape = {};  // tensors: dimensions in symbols, separated by commas
  std::string_view like = {};   // an earlier operand whose dtype this one must have
  bool panels = false;          // may be packed
  bool row_major = true;        // may be row-major
  bool uniform = false;         // caches: all of one geometry
  IndexRole role = IndexRole::none;
};

enum class AttrKind : int32_t { number, integer, boolean };

struct AttrSpec {
  std::string_view name;
  AttrKind kind;
  std::optional<Sym> binds;                       // an integer that gives a symbol its value
  std::optional<double> fallback = std::nullopt;  // where it may be left out; a boolean is 0 or 1
};

struct OpSpec {
  OpKind kind;
  std::string_view name;
  std::span<const OperandSpec> operands;  // in binding order: a symbol's first appearance is alone
  std::span<const AttrSpec> attrs;
};

inline constexpr int kMaxOperands = 12;
inline constexpr int kMaxAttrs = 3;

const OpSpec& op_spec(OpKind kind);
std::optional<OpKind> find_op(std::string_view name);
std::string_view op_name(OpKind kind);

struct NamedOperand {
  std::string_view name;
  OperandView view;
};

using AttrValue = std::variant<double, bool>;

struct NamedAttr {
  std::string_view name;
  AttrValue value;
};

// Operands and attributes in the order of the spec, with every symbol known. Absent operands are monostate.
struct BoundOp {
  OpKind kind = OpKind::count;
  std::array<OperandView, kMaxOperands> operands = {};
  std::array<double, kMaxAttrs> attrs = {};
  std::array<Extent, kSymCount> sizes = {};

  int64_t size(Sym s) const { return sizes[static_cast<size_t>(s)].size; }
  int64_t rows() const { return size(Sym::rows); }
};

// Checks names, kinds, dtypes, layouts, ranks, sizes and the relations between them; looks at no data and accepts null
// data pointers. Throws Error(invalid_argument), e.g.
// "rms_norm: operand w has shape [5], expected [d] with d = 7 from x".
BoundOp bind_op(OpKind kind, std::span<const NamedOperand> operands, std::span<const NamedAttr> attrs);

// An output may share memory with no other operand (nor an operand that is updated). Throws Error(invalid_argument).
void check_overlap(const BoundOp& op);

using OpParams =
    std::variant<EmbedParams, RmsNormParams, LinearParams, QkvRopeCacheParams, QRopeParams, SwiftkvProjectParams,
                 AttentionParams, SiluMulParams, GatherRowsParams, LogprobsParams, SampleParams, KvQuantizeParams,
                 KvDequantizeParams, CopyBlocksParams, QuantizeRowsParams, RopeTableParams, CopyRowsParams,
                 CastRowsParams, RmsNormBackwardParams, LinearBackwardParams, AttentionBackwardParams,
                 RopeBackwardParams, SiluMulBackwardParams, DistillHeadParams, CrossEntropyHeadParams, MseParams,
                 EmbedBackwardParams, SumSquaresParams, AdamwParams, PackWeightParams>;

// The params of the op with the sizes and pointers that `op` has now. Allocates nothing.
OpParams make_params(const BoundOp& op);

// The struct inside, as BackendTable takes it.
const void* params_data(const OpParams& params);

}  // namespace swiftkv
