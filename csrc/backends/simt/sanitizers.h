// What the executor tells the sanitizers about its fibers and about memory that it reads or writes for kernels.
// SWIFTKV_SIMT_ADDRESS and SWIFTKV_SIMT_THREAD are defined where kernels are built with AddressSanitizer or
// ThreadSanitizer, though the executor itself never is.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(SWIFTKV_SIMT_ADDRESS)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(SWIFTKV_SIMT_THREAD)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* object);
void __tsan_release(void* object);
void __tsan_read_range(void* data, unsigned long bytes);
void __tsan_write_range(void* data, unsigned long bytes);
void __tsan_func_entry(void* return_address);
void __tsan_func_exit(void);
}
#endif

namespace swiftkv::simt {

static inline void tsan_acquire([[maybe_unused]] void* object) {
#if defined(SWIFTKV_SIMT_THREAD)
  __tsan_acquire(object);
#endif
}

static inline void tsan_release([[maybe_unused]] void* object) {
#if defined(SWIFTKV_SIMT_THREAD)
  __tsan_release(object);
#endif
}

// A read or write that the executor does for the calling fiber, shown at `caller` in reports.
static inline void tsan_read([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes,
                             [[maybe_unused]] void* caller) {
#if defined(SWIFTKV_SIMT_THREAD)
  __tsan_func_entry(caller);
  __tsan_read_range(const_cast<void*>(data), bytes);
  __tsan_func_exit();
#endif
}

static inline void tsan_write([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes,
                              [[maybe_unused]] void* caller) {
#if defined(SWIFTKV_SIMT_THREAD)
  __tsan_func_entry(caller);
  __tsan_write_range(data, bytes);
  __tsan_func_exit();
#endif
}

// Whether AddressSanitizer knows that some of the bytes belong to nobody.
static inline bool asan_poisoned([[maybe_unused]] const void* data, [[maybe_unused]] size_t bytes) {
#if defined(SWIFTKV_SIMT_ADDRESS)
  return __asan_region_is_poisoned(const_cast<void*>(data), bytes) != nullptr;
#else
  return false;
#endif
}

static inline void asan_poison([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#if defined(SWIFTKV_SIMT_ADDRESS)
  __asan_poison_memory_region(data, bytes);
#endif
}

static inline void asan_unpoison([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#if defined(SWIFTKV_SIMT_ADDRESS)
  __asan_unpoison_memory_region(data, bytes);
#endif
}

}  // namespace swiftkv::simt
