// One error path: kernels and backends return a Status, check() throws it once as Error, the addon translates it once.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace swiftkv {

// Mirrored by the list of codes in lib/errors.ts; values are part of the backend ABI.
enum class Code : int32_t {
  ok = 0,
  invalid_argument = 1,  // ERR_INVALID_ARGUMENT
  out_of_memory = 2,     // ERR_OUT_OF_MEMORY
  io = 3,                // ERR_IO
  unsupported = 4,       // ERR_UNSUPPORTED
  aborted = 5,           // ERR_ABORTED
  numeric = 6,           // ERR_NUMERIC
  internal = 7,          // ERR_INTERNAL
  disposed = 8,          // ERR_DISPOSED
};

// Plain data, so that it can cross the C boundary of a side library.
struct [[nodiscard]] Status {
  Code code = Code::ok;
  char message[252] = {};

  bool ok() const { return code == Code::ok; }
};

[[gnu::format(printf, 2, 3)]] inline Status fail(Code code, const char* format, ...) {
  Status s;
  s.code = code;
  va_list args;
  va_start(args, format);
  std::vsnprintf(s.message, sizeof s.message, format, args);
  va_end(args);
  return s;
}

class Error : public std::runtime_error {
 public:
  Error(Code c, const std::string& message) : std::runtime_error(message), code(c) {}
  Code code;
};

inline void check(const Status& s) {
  if (!s.ok()) throw Error(s.code, s.message);
}

}  // namespace swiftkv
