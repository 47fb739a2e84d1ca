// A stack of its own to run on. A fiber keeps its stack from block to block and from launch to launch, and may be
// resumed by any thread of the operating system.
#pragma once

#include <cstddef>

namespace swiftkv::simt {

struct Fiber {
  void* stack_pointer = nullptr;   // while it is suspended
  unsigned char* stack = nullptr;  // lowest byte
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan = nullptr;        // ThreadSanitizer's
};

// Makes the fiber begin with `entry`, which never returns. Once more after a fiber was abandoned.
void begin_fiber(Fiber& fiber, unsigned char* stack, size_t stack_bytes, void (*entry)());

// Makes `fiber` stand for the thread that calls.
void adopt_thread(Fiber& fiber);

void switch_fiber(Fiber& from, Fiber& to);
// The first thing that an entry does.
void fiber_entered();

// Memory for `count` stacks, each with a page below it that may not be touched. Never given back.
unsigned char* allocate_stacks(size_t count, size_t bytes);

}  // namespace swiftkv::simt
