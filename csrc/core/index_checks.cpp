// Bounds of every index that a kernel follows, for single ops and for batches.
#include "core/index_checks.h"

#include <algorithm>
#include <vector>

namespace swiftkv {
namespace {

using ll = long long;

// What a check of one operand needs beside its values.
struct Operand {
  const char* name;
  const int32_t* values;
  int64_t count;
};

std::optional<Operand> operand_with(const BoundOp& op, IndexRole role) {
  const OpSpec& spec = op_spec(op.kind);
  for (size_t i = 0; i < spec.operands.size(); ++i) {
    const auto* tensor = std::get_if<TensorView>(&op.operands[i]);
    if (spec.operands[i].role != role || tensor == nullptr) continue;
    return Operand{spec.operands[i].name.data(), static_cast<const int32_t*>(tensor->data), tensor->count()};
  }
  return std::nullopt;
}

Status check_attention(const BoundOp& op) {
  const auto positions = operand_with(op, IndexRole::position);
  const auto starts = operand_with(op, IndexRole::query_start);
  const auto contexts = operand_with(op, IndexRole::context_len);
  const auto rows = operand_with(op, IndexRole::table_row);
  const auto tables = operand_with(op, IndexRole::block_table);
  const RowsView half = {.rows = op.rows(),
                         .num_seqs = static_cast<int32_t>(op.size(Sym::B)),
                         .positions = positions->values,
                         .query_start = starts->values,
                         .context_len = contexts->values,
                         .table_row = rows->values,
                         .block_tables = tables->values,
                         .table_stride = static_cast<int32_t>(op.size(Sym::stride))};
  const char* what = op_spec(op.kind).name.data();
  if (Status s = check_starts(Code::invalid_argument, what, half, op.size(Sym::tables)); !s.ok()) return s;
  return check_contexts(Code::invalid_argument, what, half, op.size(Sym::NB));
}

Status check_operand(const BoundOp& op, const OperandSpec& spec, const TensorView& tensor) {
  int64_t low = 0;
  int64_t high = 0;
  switch (spec.role) {
    case IndexRole::token: high = op.size(Sym::V); break;
    case IndexRole::position: high = op.size(Sym::P); break;
    case IndexRole::slot:
      low = -1;
      high = op.size(Sym::NB) * kBlockTokens;
      break;
    case IndexRole::source_slot: high = op.size(Sym::NB) * kBlockTokens; break;
    case IndexRole::row:
    case IndexRole::survivor:
    case IndexRole::logit_row:
    case IndexRole::logprob_row: high = op.size(Sym::src); break;
    case IndexRole::forced_token:
      low = -1;
      high = op.size(Sym::V);
      break;
    case IndexRole::mask_row:
      low = -1;
      high = op.size(Sym::masks);
      break;
    case IndexRole::sampler_slot: high = op.size(Sym::slots); break;
    case IndexRole::output_position: high = int64_t{1} << 31; break;
    case IndexRole::block: high = op.size(Sym::NB); break;
    case IndexRole::none:
    case IndexRole::query_start:
    case IndexRole::context_len:
    case IndexRole::table_row:
    case IndexRole::block_table: return {};
  }
  char what[64];
  std::snprintf(what, sizeof what, "%s: %s", op_spec(op.kind).name.data(), spec.name.data());
  return check_range(Code::invalid_argument, what, static_cast<const int32_t*>(tensor.data), tensor.count(), low, high);
}

}  // namespace

Status check_range(Code code, const char* what, const int32_t* values, int64_t count, int64_t low, int64_t high) {
  for (int64_t i = 0; i < count; ++i) {
    if (values[i] < low || values[i] >= high) {
      return fail(code, "%s[%lld] is %d, expected %lld to %lld", what, static_cast<ll>(i), values[i],
                  static_cast<ll>(low), static_cast<ll>(high - 1));
    }
  }
  return {};
}

Status check_starts(Code code, const char* what, const RowsView& half, int64_t table_rows) {
  if (half.query_start[0] != 0 || half.query_start[half.num_seqs] != half.rows) {
    return fail(code, "%s: query starts go from %d to %d, expected 0 to the %lld rows", what, half.query_start[0],
                half.query_start[half.num_seqs], static_cast<ll>(half.rows));
  }
  for (int32_t b = 0; b < half.num_seqs; ++b) {
    const int32_t begin = half.query_start[b];
    const int32_t end = half.query_start[b + 1];
    if (end < begin || end > half.rows) {
      return fail(code, "%s: query start %d is %d after %d, expected them to ascend to %lld", what, b + 1, end, begin,
                  static_cast<ll>(half.rows));
    }
    if (half.table_row[b] < 0 || half.table_row[b] >= table_rows) {
      return fail(code, "%s: block table row of sequence %d is %d, expected 0 to %lld", what, b, half.table_row[b],
                  static_cast<ll>(table_rows - 1));
    }
  }
  return {};
}

Status check_contexts(Code code, const char* what, const RowsView& half, int64_t num_blocks) {
  const int64_t max_context = int64_t{half.table_stride} * kBlockTokens;
  for (int32_t b = 0; b < half.num_seqs; ++b) {
    const int64_t context = half.context_len[b];
    if (context < 0 || context > max_context) {
      return fail(code, "%s: context length of sequence %d is %lld, expected 0 to %lld", what, b,
                  static_cast<ll>(context), static_cast<ll>(max_context));
    }
    for (int32_t i = half.query_start[b]; i < half.query_start[b + 1]; ++i) {
      if (half.positions[i] < 0 || half.positions[i] >= context) {
        return fail(code, "%s: position of row %d is %d, expected less than %lld: the context of its sequence %d", what,
                    i, half.positions[i], static_cast<ll>(context), b);
      }
    }
    const int64_t row = half.table_row[b];
    const int32_t* table = half.block_tables + row * half.table_stride;
    const int64_t blocks = (context + kBlockTokens - 1) / kBlockTokens;
    for (int64_t i = 0; i < blocks; ++i) {
      if (table[i] < 0 || table[i] >= num_blocks) {
        return fail(code, "%s: block %lld of sequence %d (table row %lld) is %d, expected 0 to %lld", what,
                    static_cast<ll>(i), b, static_cast<ll>(row), table[i], static_cast<ll>(num_blocks - 1));
      }
    }
  }
  return {};
}

Status check_copies(Code code, const char* what, const int32_t* from, const int32_t* to, int64_t count,
                    int32_t* space) {
  std::copy_n(to, count, space);
  std::sort(space, space + count);
  const int32_t* twice = std::adjacent_find(space, space + count);
  if (twice != space + count) return fail(code, "%s: block %d is written twice by copies", what, *twice);
  for (int64_t i = 0; i < count; ++i) {
    if (std::binary_search(space, space + count, from[i])) {
      return fail(code, "%s: block %d is both read and written by copies", what, from[i]);
    }
  }
  return {};
}

Status check_indices(const BoundOp& op) {
  const OpSpec& spec = op_spec(op.kind);
  if (operand_with(op, IndexRole::query_start)) return check_attention(op);
  for (size_t i = 0; i < spec.operands.size(); ++i) {
    const auto* tensor = std::get_if<TensorView>(&op.operands[i]);
    if (tensor == nullptr) continue;
    if (Status s = check_operand(op, spec.operands[i], *tensor); !s.ok()) return s;
  }
  if (op.kind == OpKind::copy_blocks) {
    const auto value = [&](size_t i) {
      const auto& tensor = std::get<TensorView>(op.operands[i]);
      return Operand{spec.operands[i].name.data(), static_cast<const int32_t*>(tensor.data), tensor.count()};
    };
    const Operand from = value(0);
    const Operand to = value(1);
    std::vector<int32_t> space(static_cast<size_t>(to.count));
    return check_copies(Code::invalid_argument, spec.name.data(), from.values, to.values, to.count, space.data());
  }
  return {};
}

}  // namespace swiftkv
