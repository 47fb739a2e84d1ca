// Reads the operands and attributes of ops from JavaScript.
#pragma once

#include <napi.h>

#include "core/op_call.h"

namespace swiftkv::addon {

// Record<string, Operand>
OperandList read_operands(Napi::Value value);
// Record<string, number | boolean>
AttrList read_attrs(Napi::Value value);

}  // namespace swiftkv::addon
