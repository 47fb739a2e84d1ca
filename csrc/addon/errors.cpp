#include "addon/errors.h"

#include <new>
#include <system_error>

namespace swiftkv::addon {

const char* code_name(Code code) {
  switch (code) {
    case Code::invalid_argument: return "ERR_INVALID_ARGUMENT";
    case Code::out_of_memory: return "ERR_OUT_OF_MEMORY";
    case Code::io: return "ERR_IO";
    case Code::unsupported: return "ERR_UNSUPPORTED";
    case Code::aborted: return "ERR_ABORTED";
    case Code::numeric: return "ERR_NUMERIC";
    case Code::disposed: return "ERR_DISPOSED";
    case Code::ok:
    case Code::internal: break;
  }
  return "ERR_INTERNAL";
}

Failure Failure::current() noexcept {
  Failure failure{Code::internal, {}};
  try {
    try {
      throw;
    } catch (const Error& e) {
      failure.code = e.code;
      failure.message = e.what();
    } catch (const std::bad_alloc&) {
      failure.code = Code::out_of_memory;
      failure.message = "out of memory";
    } catch (const std::system_error& e) {
      failure.message = std::string("the system refused: ") + e.what();
    } catch (const std::exception& e) {
      failure.message = e.what();
    } catch (...) {
      failure.message = "an unknown exception";
    }
  } catch (...) {
    failure.code = Code::out_of_memory;
  }
  return failure;
}

// Without property access: that fails while an environment is being terminated.
Napi::Error js_error(Napi::Env env, const char* code, const std::string& message) {
  napi_value js_code = nullptr, js_message = nullptr, error = nullptr;
  if (napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &js_code) != napi_ok ||
      napi_create_string_utf8(env, message.data(), message.size(), &js_message) != napi_ok ||
      napi_create_error(env, js_code, js_message, &error) != napi_ok)
    return Napi::Error::New(env);
  return Napi::Error(env, error);
}

Napi::Error js_error(Napi::Env env, const Failure& failure) {
  return js_error(env, code_name(failure.code), failure.message);
}

void throw_invalid(Napi::Env env, const std::string& message) {
  throw js_error(env, "ERR_INVALID_ARGUMENT", message);
}

void throw_disposed(Napi::Env env, const char* what) {
  throw js_error(env, "ERR_DISPOSED", std::string("the ") + what + " has been disposed of");
}

}  // namespace swiftkv::addon
