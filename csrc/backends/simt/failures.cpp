// What is said when something is wrong, and the checks of addresses and of a block's end.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

#include "backends/simt/block.h"

namespace swiftkv::simt {
namespace {

// Written by fibers, which must not touch the heap (ThreadSanitizer); read when the block has stopped.
char text_of_thread[4096];
std::string text_of_block;

void add(std::string& text, const char* format, ...) __attribute__((format(printf, 2, 3)));
void add(std::string& text, const char* format, ...) {
  char buffer[512];
  va_list args;
  va_start(args, format);
  std::vsnprintf(buffer, sizeof buffer, format, args);
  va_end(args);
  text += buffer;
}

std::string place_of_block() {
  std::string text;
  add(text, "%s block (%u, %u, %u)", block.grid->name, blockIdx.x, blockIdx.y, blockIdx.z);
  return text;
}

// Runs of neighbours that wait at the same place.
std::string waiting_threads() {
  std::string text = place_of_block() + ": deadlock, nobody can run:";
  for (int i = 0; i < block.thread_count;) {
    const Thread& t = block.threads[i];
    int end = i + 1;
    while (end < block.thread_count && block.threads[end].exited == t.exited &&
           (t.exited || (block.threads[end].waits_for == t.waits_for && same_site(block.threads[end].site, t.site))))
      ++end;
    if (end == i + 1)
      add(text, " thread %d", i);
    else
      add(text, " threads %d to %d", i, end - 1);
    if (t.exited)
      text += " exited;";
    else
      add(text, " at %s %s:%u;", t.waits_for, short_path(t.site.file_name()), t.site.line());
    i = end;
  }
  text.back() = '.';
  return text;
}

[[noreturn]] void say_and_leave(const Thread& t, const Site& site, const char* format, va_list args) {
  int n = std::snprintf(text_of_thread, sizeof text_of_thread,
                        "%s block (%u, %u, %u) thread (%u, %u, %u) %s:%u: ", block.grid->name, blockIdx.x, blockIdx.y,
                        blockIdx.z, t.index.x, t.index.y, t.index.z, short_path(site.file_name()),
                        static_cast<unsigned>(site.line()));
  if (n < 0) n = 0;
  if (static_cast<size_t>(n) < sizeof text_of_thread)
    std::vsnprintf(text_of_thread + n, sizeof text_of_thread - static_cast<size_t>(n), format, args);
  block.failed = true;
  leave_block();
}

void fail_block(std::string text) {
  text_of_block = static_cast<std::string&&>(text);
  block.failed = true;
}

}  // namespace

const char* short_path(const char* path) {
  const char* found = path;
  for (const char* p = path; *p != '\0'; ++p) {
    if (p != path && p[-1] != '/') continue;
    if (std::strncmp(p, "csrc/", 5) == 0 || std::strncmp(p, "test/", 5) == 0) found = p;
  }
  return found;
}

void stop_thread(const Thread& thread, const Site& site, const char* format, ...) {
  va_list args;
  va_start(args, format);
  say_and_leave(thread, site, format, args);
}

void stop(const Site& site, const char* format, ...) {
  va_list args;
  va_start(args, format);
  say_and_leave(*block.current, site, format, args);
}

void forget_failure() {
  text_of_thread[0] = '\0';
  text_of_block.clear();
}

const std::string& last_failure() {
  if (text_of_thread[0] != '\0') text_of_block = text_of_thread;
  return text_of_block;
}

void check_end_of_block() {
  if (block.exited < block.thread_count) return fail_block(waiting_threads());
  if (!block.bulk.empty()) {
    const BulkCopy& c = block.bulk[0];
    std::string text = place_of_block();
    add(text, " thread %d %s:%u: nobody has waited for this bulk copy, and the block ends", c.thread,
        short_path(c.site.file_name()), static_cast<unsigned>(c.site.line()));
    return fail_block(text);
  }
#if !defined(SWIFTKV_SIMT_ADDRESS)
  for (size_t i = 0; i < kGuard; ++i) {
    if (arena[block.grid->shared_bytes + i] == kGuardByte) continue;
    std::string text = place_of_block();
    add(text, ": dynamic shared memory was written %zu bytes past its %zu", i + 1, block.grid->shared_bytes);
    return fail_block(text);
  }
#endif
}

void check_shared(const void* p, size_t bytes, size_t alignment, const char* what, const Site& site) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0)
    stop(site, "misaligned address of %s: it must be a multiple of %zu, its last bits are 0x%02x", what, alignment,
         static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % (2 * alignment)));
  if (in_arena(p)) {
    const auto offset = static_cast<size_t>(static_cast<const unsigned char*>(p) - arena);
    if (offset + bytes > block.grid->shared_bytes)
      stop(site, "%s reaches byte %zu of dynamic shared memory, the block has %zu", what, offset + bytes,
           block.grid->shared_bytes);
  } else if (asan_poisoned(p, bytes)) {
    stop(site, "%s is outside shared memory", what);
  }
}

void check_global(const void* p, size_t bytes, size_t alignment, const char* what, const Site& site) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0)
    stop(site, "misaligned address of %s: it must be a multiple of %zu, its last bits are 0x%02x", what, alignment,
         static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % (2 * alignment)));
  if (in_arena(p)) stop(site, "%s is in shared memory", what);
  if (asan_poisoned(p, bytes)) stop(site, "%s reads memory that belongs to nobody", what);
}

}  // namespace swiftkv::simt
