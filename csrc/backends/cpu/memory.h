// Host memory of the cpu backend.
#pragma once

#include <cstddef>

#include "core/status.h"

namespace swiftkv::cpu {

// 64-byte aligned, zero-filled and touched, so that a later step neither faults nor fails. Large blocks come from the
// operating system, with huge pages advised, and go back to it at once when released.
Status allocate(size_t bytes, void** out);
void release(void* data, size_t bytes);

}  // namespace swiftkv::cpu
