// Data-dependent checks: no number that a kernel follows may lead it out of its operands. Allocation-free.
#pragma once

#include <cstdint>

#include "core/op_registry.h"
#include "core/ops.h"
#include "core/status.h"

namespace swiftkv {

// values[i] in [low, high) for all i. `what` names the array in the message.
Status check_range(Code code, const char* what, const int32_t* values, int64_t count, int64_t low, int64_t high);

// Query starts ascend from 0 to rows, and table rows are in [0, table_rows).
Status check_starts(Code code, const char* what, const RowsView& half, int64_t table_rows);

// After check_starts: context lengths fit a table, every position lies within its sequence's context, and every block
// that the context reaches is in [0, num_blocks).
Status check_contexts(Code code, const char* what, const RowsView& half, int64_t num_blocks);

// Copies run in any order: no block may be written twice, or both read and written. `space` takes `count` numbers.
Status check_copies(Code code, const char* what, const int32_t* from, const int32_t* to, int64_t count, int32_t* space);

// All index operands of an op called alone; their data must be readable here. Code::invalid_argument.
Status check_indices(const BoundOp& op);

}  // namespace swiftkv
