// Host memory of the cpu backend.
#pragma once

#include <cstddef>

#include "core/status.h"

namespace swiftkv::cpu {

// 64-byte aligned and zero-filled. Large blocks come from the operating system, with huge pages advised, and go back to
// it at once when released; their pages come with the first write, or with touch().
Status allocate(size_t bytes, void** out);
void release(void* data, size_t bytes);

// Makes the pages of a range resident, so that no later step faults. Contents stay, also those that other threads are
// writing meanwhile.
void touch(void* data, size_t bytes);

}  // namespace swiftkv::cpu
