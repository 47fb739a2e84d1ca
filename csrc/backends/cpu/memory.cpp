// Large blocks are mapped (release then really returns them), small ones come from the heap.
#include "backends/cpu/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace swiftkv::cpu {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMapFrom = size_t{256} << 10;
constexpr size_t kHugePage = size_t{2} << 20;

constexpr size_t round_up(size_t bytes, size_t step) {
  return (bytes + step - 1) / step * step;
}

size_t page_size() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

void* map(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return data == MAP_FAILED ? nullptr : data;
}

// A mapping that starts at a huge page: what lies before and after it is given back.
void* map_huge_aligned(size_t bytes) {
  auto* whole = static_cast<char*>(map(bytes + kHugePage));
  if (whole == nullptr) return nullptr;
  const size_t before = round_up(reinterpret_cast<uintptr_t>(whole), kHugePage) - reinterpret_cast<uintptr_t>(whole);
  char* data = whole + before;
  if (before > 0) munmap(whole, before);
  munmap(data + bytes, kHugePage - before);
#ifdef MADV_HUGEPAGE
  madvise(data, bytes, MADV_HUGEPAGE);  // only advice: without it the pages are small, not missing
#endif
  return data;
}

Status out_of_memory(size_t bytes) {
  return fail(Code::out_of_memory,
              "Could not allocate %zu bytes on the cpu device; load with a smaller kvCacheBytes or model", bytes);
}

}  // namespace

Status allocate(size_t bytes, void** out) {
  *out = nullptr;
  if (bytes > SIZE_MAX / 4) return out_of_memory(bytes);
  if (bytes < kMapFrom) {
    const size_t padded = round_up(bytes == 0 ? 1 : bytes, kAlignment);
    void* data = std::aligned_alloc(kAlignment, padded);
    if (data == nullptr) return out_of_memory(bytes);
    std::memset(data, 0, padded);
    *out = data;
    return {};
  }
  const size_t padded = round_up(bytes, page_size());
  void* data = padded >= 2 * kHugePage ? map_huge_aligned(padded) : map(padded);
  if (data == nullptr) return out_of_memory(bytes);
  *out = data;
  return {};
}

void release(void* data, size_t bytes) {
  if (data == nullptr) return;
  if (bytes < kMapFrom)
    std::free(data);
  else
    munmap(data, round_up(bytes, page_size()));
}

void touch(void* data, size_t bytes) {
  // Adding nothing, atomically, is a write that changes nothing.
  const auto at = [data](size_t i) { __atomic_fetch_or(static_cast<char*>(data) + i, 0, __ATOMIC_RELAXED); };
  for (size_t i = 0; i < bytes; i += page_size()) at(i);
  if (bytes > 0) at(bytes - 1);
}

}  // namespace swiftkv::cpu
