#include "backends/simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "backends/simt/sanitizers.h"

extern "C" void swiftkv_simt_switch(void** save, void* load);

namespace swiftkv::simt {
namespace {

#if defined(__x86_64__)
constexpr size_t kFrameWords = 7, kReturnWord = 6;  // r15 r14 r13 r12 rbx rbp, return address
constexpr size_t kEntryOffset = 8;                  // a function begins 8 bytes below a multiple of 16
#else
constexpr size_t kFrameWords = 20, kReturnWord = 11;  // x19 to x29, x30, d8 to d15
constexpr size_t kEntryOffset = 0;
#endif

}  // namespace

void begin_fiber(Fiber& fiber, unsigned char* stack, size_t stack_bytes, void (*entry)()) {
  asan_unpoison(stack, stack_bytes);
  fiber.stack = stack;
  fiber.stack_bytes = stack_bytes;
  fiber.fake_stack = nullptr;
  const uintptr_t top = (reinterpret_cast<uintptr_t>(stack) + stack_bytes) & ~uintptr_t{63};
  auto* frame = reinterpret_cast<uintptr_t*>(top - kEntryOffset - kFrameWords * sizeof(uintptr_t));
  for (size_t i = 0; i < kFrameWords; ++i) frame[i] = 0;
  frame[kReturnWord] = reinterpret_cast<uintptr_t>(entry);
  fiber.stack_pointer = frame;
#if defined(SWIFTKV_SIMT_THREAD)
  if (fiber.tsan != nullptr) __tsan_destroy_fiber(fiber.tsan);
  fiber.tsan = __tsan_create_fiber(0);
#endif
}

void adopt_thread([[maybe_unused]] Fiber& fiber) {
#if defined(SWIFTKV_SIMT_ADDRESS)
  struct Bounds {
    void* stack = nullptr;
    size_t bytes = 0;
    Bounds() {
      pthread_attr_t attributes;
      pthread_getattr_np(pthread_self(), &attributes);
      pthread_attr_getstack(&attributes, &stack, &bytes);
      pthread_attr_destroy(&attributes);
    }
  };
  static thread_local const Bounds bounds;
  fiber.stack = static_cast<unsigned char*>(bounds.stack);
  fiber.stack_bytes = bounds.bytes;
#endif
#if defined(SWIFTKV_SIMT_THREAD)
  fiber.tsan = __tsan_get_current_fiber();
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
#if defined(SWIFTKV_SIMT_ADDRESS)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#if defined(SWIFTKV_SIMT_THREAD)
  __tsan_switch_to_fiber(to.tsan, 1);  // 1: no order between the two
#endif
  swiftkv_simt_switch(&from.stack_pointer, to.stack_pointer);
#if defined(SWIFTKV_SIMT_ADDRESS)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void fiber_entered() {
#if defined(SWIFTKV_SIMT_ADDRESS)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

unsigned char* allocate_stacks(size_t count, size_t bytes) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory =
      mmap(nullptr, count * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* stacks = static_cast<unsigned char*>(memory);
  for (size_t i = 0; i < count; ++i) mprotect(stacks + i * bytes, page, PROT_NONE);
  return stacks;
}

}  // namespace swiftkv::simt
