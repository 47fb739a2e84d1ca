// Data-dependent checks: no number that a kernel follows may lead it out of its operands. Allocation-free.
#pragma once

#include <cstdint>

#include "core/op_registry.h"
#include "core/ops.h"
#include "core/status.h"

namespace swiftkv {

// values[i] in [low, high) for all i. `what` names the array in the message.
Status check_range(Code code, const char* what, const int32_t* values, int64_t count, int64_t low, int64_t high);

// Query starts ascend from 0 to rows; table rows, context lengths and block ids are within bounds; every position lies
// within its sequence's context.
Status check_half(Code code, const char* what, const RowsView& half, int64_t table_rows, int64_t num_blocks);

// All index operands of an op called alone; their data must be readable here. Code::invalid_argument.
Status check_indices(const BoundOp& op);

}  // namespace swiftkv
