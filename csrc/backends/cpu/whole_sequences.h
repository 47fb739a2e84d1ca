// What attention_backward asks of its sequences: that all keys of each are rows of the call, in order. Not inline, as
// files of ISA levels call it.
#pragma once

#include "core/ops.h"
#include "core/status.h"

namespace swiftkv::cpu {

Status check_whole_sequences(const RowsView& half);

}  // namespace swiftkv::cpu
