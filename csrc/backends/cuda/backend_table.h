// The table of the cuda backend; in the host build the same functions over the executor.
#pragma once

#include "core/backend.h"

namespace swiftkv::cuda {

const BackendTable* backend_table();

}  // namespace swiftkv::cuda
