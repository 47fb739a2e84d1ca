// Reads a ProgramDescription from JavaScript.
#pragma once

#include <napi.h>

#include "core/program.h"

namespace swiftkv::addon {

ProgramDescription read_program_description(Napi::Value value);

}  // namespace swiftkv::addon
