// From C++ failures to JavaScript errors with a stable `code`. Thrown inside binding functions only.
#pragma once

#include <napi.h>

#include <exception>
#include <string>

#include "core/status.h"

namespace swiftkv::addon {

// The spelling of lib/errors.ts.
const char* code_name(Code code);

// What a failure is, as plain data that can travel from another thread. Never throws: without memory for the message it
// says only that.
struct Failure {
  Code code = Code::ok;
  std::string message;

  static Failure current() noexcept;  // of the exception being handled
};

Napi::Error js_error(Napi::Env env, const char* code, const std::string& message);
Napi::Error js_error(Napi::Env env, const Failure& failure);

[[noreturn]] void throw_invalid(Napi::Env env, const std::string& message);
[[noreturn]] void throw_disposed(Napi::Env env, const char* what);

// The fault barrier of every function that JavaScript calls: no C++ exception leaves it.
template <class F>
napi_value barrier(napi_env env, F&& f) noexcept {
  try {
    try {
      return f();
    } catch (const Napi::Error& e) {
      e.ThrowAsJavaScriptException();
    } catch (...) {
      js_error(env, Failure::current()).ThrowAsJavaScriptException();
    }
  } catch (...) {
    // The environment is being terminated: nobody is left to be told.
  }
  return nullptr;
}

// For constructors of wrapped objects: node-addon-api calls them behind a barrier of its own, which keeps the code of
// its own errors only.
template <class F>
decltype(auto) coded(napi_env env, F&& f) {
  try {
    return f();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw js_error(env, Failure::current());
  }
}

using Function = Napi::Value (*)(const Napi::CallbackInfo&);

template <Function F>
napi_value entry(napi_env env, napi_callback_info info) {
  return barrier(env, [&]() -> napi_value { return F(Napi::CallbackInfo(env, info)); });
}

}  // namespace swiftkv::addon
