// The matcher: holds operands and attributes against an op's spec and says what is wrong.
#include "core/op_registry.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/op_specs.h"
#include "core/shape_expr.h"
#include "core/status.h"
#include "core/train_op_specs.h"

namespace swiftkv {
namespace {

using std::string;
using std::to_string;

[[noreturn]] void refuse(const OpSpec& spec, const string& message) {
  throw Error(Code::invalid_argument, string(spec.name) + ": " + message);
}

string operand_text(const OperandSpec& o) {
  return "operand " + string(o.name);
}

string extent_text(const Extent& e) {
  if (e.axis == Axis::none) return to_string(e.size);
  string text = axis_name(e.axis);
  if (e.plus != 0) text += " + " + to_string(e.plus);
  return text + " (" + to_string(e.size) + ")";
}

string shape_text(const TensorView& t) {
  string text = "[";
  for (int32_t i = 0; i < t.rank; ++i) {
    text += (i > 0 ? ", " : "") + extent_text(t.shape[static_cast<size_t>(i)]);
  }
  return text + "]";
}

string dtypes_text(uint32_t dtypes) {
  string text;
  for (DType t :
       {DType::f32, DType::bf16, DType::f16, DType::fp8_e4m3, DType::i32, DType::u8, DType::int8, DType::int4}) {
    if ((dtypes >> static_cast<int>(t) & 1) == 0) continue;
    text += (text.empty() ? "" : " or ") + string(dtype_name(t));
  }
  return text;
}

const char* kind_text(OperandKind kind) {
  switch (kind) {
    case OperandKind::tensor: return "a tensor";
    case OperandKind::cache: return "a cache";
    case OperandKind::caches: return "a list of caches";
    case OperandKind::samplers: return "a sampler table";
  }
  return "?";
}

template <class Specs>
string names_text(const Specs& specs) {
  string text;
  for (const auto& s : specs) text += (text.empty() ? "" : ", ") + string(s.name);
  return text.empty() ? "none" : text;
}

// Sizes that may be zero: there is then nothing to do. Only these may be row axes of a program.
constexpr bool counts_rows(Sym s) {
  return s == Sym::rows || s == Sym::B || s == Sym::src || s == Sym::masks;
}
constexpr bool may_be_zero(Sym s) {
  return counts_rows(s) || s == Sym::top || s == Sym::P || s == Sym::tables || s == Sym::stride;
}

class Matcher {
 public:
  explicit Matcher(const OpSpec& spec) : spec_(spec) { op_.kind = spec.kind; }

  BoundOp match(std::span<const NamedOperand> operands, std::span<const NamedAttr> attrs) {
    match_attrs(attrs);
    place(operands);
    for (size_t i = 0; i < spec_.operands.size(); ++i) match_operand(i);
    op_.sizes = symbols_.sizes;
    check_sizes();
    check_relations();
    return op_;
  }

 private:
  void match_attrs(std::span<const NamedAttr> attrs) {
    for (const NamedAttr& a : attrs) {
      if (std::none_of(spec_.attrs.begin(), spec_.attrs.end(), [&](const AttrSpec& s) { return s.name == a.name; })) {
        refuse(spec_, "Expected attributes " + names_text(spec_.attrs) + " but received " + string(a.name));
      }
    }
    for (size_t i = 0; i < spec_.attrs.size(); ++i) {
      const AttrSpec& s = spec_.attrs[i];
      const auto a = std::find_if(attrs.begin(), attrs.end(), [&](const NamedAttr& x) { return x.name == s.name; });
      if (a == attrs.end() && !s.fallback) refuse(spec_, "attribute " + string(s.name) + " is missing");
      op_.attrs[i] = a == attrs.end() ? *s.fallback : attr_value(s, a->value);
      if (s.binds) symbols_.bind(*s.binds, {.size = static_cast<int64_t>(op_.attrs[i])}, s.name);
    }
  }

  double attr_value(const AttrSpec& s, const AttrValue& value) {
    const bool* flag = std::get_if<bool>(&value);
    if ((flag != nullptr) != (s.kind == AttrKind::boolean)) {
      refuse(spec_,
             string("Expected ") + (flag == nullptr ? "a boolean" : "a number") + " for attribute " + string(s.name));
    }
    if (flag != nullptr) return *flag ? 1 : 0;
    const double number = std::get<double>(value);
    if (!std::isfinite(static_cast<float>(number))) {
      refuse(spec_, "Expected a finite number for attribute " + string(s.name));
    }
    constexpr double kMaxInteger = 1 << 20;
    if (s.kind == AttrKind::integer && (number != std::floor(number) || number < 1 || number > kMaxInteger)) {
      refuse(spec_, "Expected an integer from 1 to 1048576 for attribute " + string(s.name) + " but received " +
                        to_string(number));
    }
    return number;
  }

  // Operands by name, into the order of the spec.
  void place(std::span<const NamedOperand> operands) {
    for (const NamedOperand& given : operands) {
      const auto s = std::find_if(spec_.operands.begin(), spec_.operands.end(),
                                  [&](const OperandSpec& o) { return o.name == given.name; });
      if (s == spec_.operands.end()) {
        refuse(spec_, "Expected operands " + names_text(spec_.operands) + " but received " + string(given.name));
      }
      OperandView& slot = op_.operands[static_cast<size_t>(s - spec_.operands.begin())];
      if (slot.index() != 0) refuse(spec_, operand_text(*s) + " is given twice");
      slot = given.view;
    }
  }

  void match_operand(size_t i) {
    const OperandSpec& s = spec_.operands[i];
    const OperandView& view = op_.operands[i];
    if (view.index() == 0) {
      if (!s.optional) refuse(spec_, operand_text(s) + " is missing");
      return;
    }
    const auto given = static_cast<OperandKind>(view.index() - 1);  // the variant is in the order of OperandKind
    if (given != s.kind) {
      refuse(spec_,
             string("Expected ") + kind_text(s.kind) + " for " + operand_text(s) + " but received " + kind_text(given));
    }
    switch (s.kind) {
      case OperandKind::tensor: return match_tensor(s, std::get<TensorView>(view));
      case OperandKind::cache: return match_cache(s, *std::get<CacheView>(view).cache);
      case OperandKind::caches: return match_caches(s, std::get<CacheListView>(view));
      case OperandKind::samplers: return match_samplers(s, std::get<SamplersView>(view));
    }
  }

  void bind(Sym sym, int64_t size, std::string_view from) { symbols_.bind(sym, {.size = size}, from); }

  void match_dtype(const OperandSpec& s, DType dtype) {
    if ((s.dtypes >> static_cast<int>(dtype) & 1) == 0) {
      refuse(spec_, operand_text(s) + " is " + dtype_name(dtype) + ", expected " + dtypes_text(s.dtypes));
    }
    if (s.like.empty() || is_quantized(dtype)) return;  // codes take activations of either dtype
    for (size_t i = 0; i < spec_.operands.size(); ++i) {
      if (spec_.operands[i].name != s.like) continue;
      const DType other = std::get<TensorView>(op_.operands[i]).dtype;
      if (other != dtype) {
        refuse(spec_, operand_text(s) + " is " + dtype_name(dtype) + ", expected " + dtype_name(other) + " like " +
                          string(s.like));
      }
    }
  }

  void match_tensor(const OperandSpec& s, const TensorView& t) {
    match_dtype(s, t.dtype);
    if (t.layout == Layout::panels ? !s.panels : !s.row_major) {
      refuse(spec_, operand_text(s) + " has layout " + (t.layout == Layout::panels ? "panels" : "row_major") +
                        ", expected " + (t.layout == Layout::panels ? "row_major" : "panels"));
    }
    if (s.panels && is_quantized(t.dtype) && t.layout != Layout::panels) {
      refuse(spec_, operand_text(s) + " is " + dtype_name(t.dtype) + " in row_major, expected panels");
    }
    const Symbols before = symbols_;
    std::string_view rest = s.shape;
    bool fits = true;
    int32_t rank = 0;
    while (!rest.empty()) {
      const std::string_view dim = next_dim(rest);
      const int32_t at = rank++;
      if (at >= t.rank) continue;
      const Extent& e = t.shape[static_cast<size_t>(at)];
      const Sym sym = single_symbol(dim);
      if (sym != Sym::count && !symbols_.bound(sym)) {
        if (e.axis != Axis::none && (!counts_rows(sym) || e.plus != 0)) fits = false;
        symbols_.bind(sym, e, s.name);
      } else if (evaluate(dim, symbols_) != e) {
        fits = false;
      }
    }
    if (fits && rank == t.rank) return;
    refuse(spec_, operand_text(s) + " has shape " + shape_text(t) + ", expected [" + string(s.shape) + "]" +
                      known_text(s.shape, before));
  }

  // " with k = 8 from a" for the symbols that were known before.
  static string known_text(std::string_view shape, const Symbols& symbols) {
    string text;
    uint32_t told = 0;
    for_each_symbol(shape, [&](Sym sym) {
      const uint32_t bit = 1u << static_cast<int>(sym);
      if (!symbols.bound(sym) || (told & bit) != 0) return;
      told |= bit;
      text += (text.empty() ? " with " : ", ") + string(sym_name(sym)) + " = " + extent_text(symbols.size(sym)) +
              " from " + string(symbols.from[static_cast<size_t>(sym)]);
    });
    return text;
  }

  void match_cache(const OperandSpec& s, const KvCache& c) {
    match_dtype(s, c.dtype);
    bind(Sym::Hk, c.num_kv_heads, s.name);
    bind(Sym::hd, c.head_dim, s.name);
    bind(Sym::NB, c.num_blocks, s.name);
  }

  void match_samplers(const OperandSpec& s, const SamplersView& samplers) {
    bind(Sym::slots, samplers.capacity, s.name);
    if (samplers.vocab == symbols_.size(Sym::V).size) return;
    refuse(spec_, operand_text(s) + " is for a vocabulary of " + to_string(samplers.vocab) +
                      ", expected V = " + to_string(symbols_.size(Sym::V).size) + " from logits");
  }

  void match_caches(const OperandSpec& s, const CacheListView& list) {
    if (list.count < 1) refuse(spec_, "Expected at least one cache for " + operand_text(s));
    const KvCache& first = list.caches[0];
    for (int32_t i = 0; i < list.count; ++i) {
      const KvCache& c = list.caches[i];
      match_dtype(s, c.dtype);
      const string which = operand_text(s) + "[" + to_string(i) + "]";
      if (c.num_blocks != first.num_blocks) {
        refuse(spec_, which + " has " + to_string(c.num_blocks) + " blocks, expected " + to_string(first.num_blocks) +
                          " like the first: all caches must be of one pool");
      }
      if (s.uniform && (c.num_kv_heads != first.num_kv_heads || c.head_dim != first.head_dim)) {
        refuse(spec_, which + " has " + to_string(c.num_kv_heads) + " heads of " + to_string(c.head_dim) +
                          ", expected " + to_string(first.num_kv_heads) + " heads of " + to_string(first.head_dim) +
                          " like the first");
      }
      // Two writers of one block would race.
      for (int32_t j = 0; j < i; ++j) {
        if (list.caches[j].data == c.data) refuse(spec_, which + " is the same cache as [" + to_string(j) + "]");
      }
    }
    bind(Sym::groups, list.count, s.name);
    bind(Sym::NB, first.num_blocks, s.name);
    if (!s.uniform) return;
    bind(Sym::Hk, first.num_kv_heads, s.name);
    bind(Sym::hd, first.head_dim, s.name);
  }

  void check_sizes() {
    for (int i = 0; i < kSymCount; ++i) {
      const Sym sym = static_cast<Sym>(i);
      if (!symbols_.bound(sym)) continue;
      const int64_t size = symbols_.size(sym).size;
      const string what =
          string(sym_name(sym)) + " = " + to_string(size) + " from " + string(symbols_.from[static_cast<size_t>(sym)]);
      if (size < 1 && !may_be_zero(sym)) refuse(spec_, "Expected at least 1 but received " + what);
      if (size > std::numeric_limits<int32_t>::max()) refuse(spec_, "Expected a 32-bit size but received " + what);
    }
    if (symbols_.bound(Sym::hd) && (op_.size(Sym::hd) % 2 != 0 || op_.size(Sym::hd) > kMaxHeadDim)) {
      refuse(spec_, "Expected an even head width hd up to " + to_string(kMaxHeadDim) + " but received " +
                        to_string(op_.size(Sym::hd)));
    }
  }

  void check_relations() {
    const auto bound = [&](Sym s) { return symbols_.bound(s); };
    if (bound(Sym::Hq) && bound(Sym::Hk) && op_.size(Sym::Hq) % op_.size(Sym::Hk) != 0) {
      refuse(spec_, "Expected query heads to be a multiple of the " + to_string(op_.size(Sym::Hk)) +
                        " KV heads but received " + to_string(op_.size(Sym::Hq)));
    }
    if (bound(Sym::B)) {
      const Axis rows = symbols_.size(Sym::rows).axis;
      const Axis sequences = symbols_.size(Sym::B).axis;
      const Axis expected = rows == Axis::T ? Axis::BT : rows == Axis::S ? Axis::BS : Axis::none;
      if (sequences != expected) {
        refuse(spec_, string("Expected the sequences of rows on axis ") + axis_name(rows) +
                          " but received sequences on axis " + axis_name(sequences));
      }
    }
    if (spec_.kind == OpKind::linear && op_.attrs[0] != 0) {
      const TensorView& y = std::get<TensorView>(op_.operands[specs::at(specs::kLinear, "y")]);
      if (y.dtype != DType::f32) {
        refuse(spec_, string("operand y is ") + dtype_name(y.dtype) + ", expected f32 with accumulate");
      }
    }
    check_fp8_activations();
    check_head_eps();
    check_gradients_of_kv();
    const auto given = [&](size_t i) { return op_.operands[i].index() != 0; };
    if (spec_.kind == OpKind::sample) {
      const bool bitmask = given(specs::at(specs::kSample, "bitmask"));
      const bool mask_rows = given(specs::at(specs::kSample, "maskRows"));
      if (mask_rows && !bitmask) refuse(spec_, "Expected a bitmask with maskRows");
      if (bitmask && !mask_rows) require_same(Sym::masks, "bitmask", "maskRows");
    }
    if (spec_.kind == OpKind::logprobs) {
      if (!given(specs::at(specs::kLogprobs, "rows"))) require_same(Sym::src, "logits", "rows");
      if (given(specs::at(specs::kLogprobs, "topIds")) != given(specs::at(specs::kLogprobs, "topLogprobs"))) {
        refuse(spec_, "Expected topIds and topLogprobs together but received only one of them");
      }
      if (op_.size(Sym::top) > op_.size(Sym::V)) {
        refuse(spec_, "Expected at most V = " + to_string(op_.size(Sym::V)) + " top tokens but received " +
                          to_string(op_.size(Sym::top)));
      }
    }
  }

  // Without an operand that picks them, the rows of `from` are those of the call.
  void require_same(Sym sym, const char* from, const char* picker) {
    const Extent& theirs = symbols_.size(sym);
    const Extent& rows = symbols_.size(Sym::rows);
    if (theirs == rows) return;
    refuse(spec_, string("operand ") + from + " has " + extent_text(theirs) +
                      " rows, expected rows = " + extent_text(rows) + " from " +
                      string(symbols_.from[static_cast<size_t>(Sym::rows)]) + " without " + picker);
  }

  void check_head_eps() {
    for (size_t i = 0; i < spec_.operands.size(); ++i) {
      const std::string_view name = spec_.operands[i].name;
      if ((name != "qNorm" && name != "kNorm") || op_.operands[i].index() == 0) continue;
      for (size_t a = 0; a < spec_.attrs.size(); ++a) {
        if (spec_.attrs[a].name != specs::kHeadEps.name || op_.attrs[a] > 0) continue;
        refuse(spec_, "Expected a number above 0 for attribute eps with " + operand_text(spec_.operands[i]));
      }
    }
  }

  // Gradients of K and V lie beside each other, group by group.
  void check_gradients_of_kv() {
    const bool attention = spec_.kind == OpKind::attention_backward;
    if (!attention && spec_.kind != OpKind::rope_backward) return;
    const int64_t heads = symbols_.bound(Sym::Hq) ? op_.size(Sym::Hq) * op_.size(Sym::hd) : 0;
    const int64_t kv = symbols_.bound(Sym::k) ? op_.size(Sym::k) : 0;
    const int64_t group = 2 * op_.size(Sym::Hk) * op_.size(Sym::hd);
    if (kv % group != 0) {
      refuse(spec_, "operand dkv is " + to_string(kv) + " wide, expected a multiple of 2*Hk*hd = " + to_string(group));
    }
    if (attention) {
      const int64_t groups = kv / group;
      const double which = op_.attrs[1];
      if (which >= 0 && which < static_cast<double>(groups) && which == std::floor(which)) return;
      refuse(spec_, "Expected one of the " + to_string(groups) + " groups of dkv for attribute group but received " +
                        to_string(which));
    }
    if (heads + kv == 0) refuse(spec_, "Expected dq, dkv or both");
    if (op_.size(Sym::n) != heads + kv) {
      refuse(spec_, "operand out is " + to_string(op_.size(Sym::n)) + " wide, expected " + to_string(heads + kv) +
                        ": the heads of dq and dkv");
    }
  }

  void check_fp8_activations() {
    for (size_t i = 0; i < spec_.attrs.size(); ++i) {
      if (spec_.attrs[i].name != specs::kFp8Activations.name || op_.attrs[i] == 0) continue;
      const auto w = std::find_if(spec_.operands.begin(), spec_.operands.end(),
                                  [](const OperandSpec& o) { return o.name == "w"; });
      const TensorView& t = std::get<TensorView>(op_.operands[static_cast<size_t>(w - spec_.operands.begin())]);
      if (t.dtype != DType::fp8_e4m3) {
        refuse(spec_, string("operand w is ") + dtype_name(t.dtype) + ", expected fp8_e4m3 with fp8Activations");
      }
    }
  }

  const OpSpec& spec_;
  BoundOp op_;
  Symbols symbols_;
};

// Bytes of memory that an operand covers at least. Panels are larger than their elements: they are only ever read.
struct Range {
  const std::byte* begin;
  const std::byte* end;
};

Range range_of(const TensorView& t) {
  const auto* data = static_cast<const std::byte*>(t.data);
  const int64_t bytes = t.dtype == DType::int4 ? t.count() / 2 : t.count() * dtype_bytes(t.dtype);
  return {data, data + bytes};
}

template <class F>
void for_each_range(const OperandView& view, F&& f) {
  if (const auto* t = std::get_if<TensorView>(&view)) return f(range_of(*t));
  const auto cache_range = [&](const KvCache& c) { f(Range{c.data, c.data + c.block_bytes * c.num_blocks}); };
  if (const auto* c = std::get_if<CacheView>(&view)) return cache_range(*c->cache);
  if (const auto* list = std::get_if<CacheListView>(&view)) {
    for (int32_t i = 0; i < list->count; ++i) cache_range(list->caches[i]);
  }
}

}  // namespace

BoundOp bind_op(OpKind kind, std::span<const NamedOperand> operands, std::span<const NamedAttr> attrs) {
  return Matcher(op_spec(kind)).match(operands, attrs);
}

void check_overlap(const BoundOp& op) {
  const OpSpec& spec = op_spec(op.kind);
  for (size_t i = 0; i < spec.operands.size(); ++i) {
    if (spec.operands[i].access == Access::in) continue;
    for (size_t j = 0; j < spec.operands.size(); ++j) {
      if (i == j) continue;
      for_each_range(op.operands[i], [&](Range a) {
        for_each_range(op.operands[j], [&](Range b) {
          if (a.begin == a.end || b.begin == b.end || a.end <= b.begin || b.end <= a.begin) return;
          refuse(spec, operand_text(spec.operands[i]) + " shares memory with operand " + string(spec.operands[j].name) +
                           ": results need memory of their own");
        });
      });
    }
  }
}

}  // namespace swiftkv
