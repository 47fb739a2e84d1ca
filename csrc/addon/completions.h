// Settles promises from other threads. One per environment; nothing of JavaScript is touched off its thread.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>

#include "addon/errors.h"

namespace swiftkv::addon {

// A promise that waits for a native result. Made on the JavaScript thread before the work starts, so that finishing
// allocates nothing.
struct Ticket {
  napi_deferred deferred = nullptr;
  Failure failure;          // rejects when its code is not ok
  double number = -1;       // resolves to { [name]: number } when not negative, else to undefined
  const char* name = "ms";  // a literal
  Ticket* next = nullptr;
};

class Completions : public std::enable_shared_from_this<Completions> {
 public:
  // `on_settled` is called on the JavaScript thread after promises have been settled.
  static std::shared_ptr<Completions> create(Napi::Env env, std::function<void()> on_settled);

  // JavaScript thread: a new promise; the event loop stays alive until it is settled.
  std::unique_ptr<Ticket> open(Napi::Env env, Napi::Value* promise);

  // Any thread, also after close(): then the ticket is dropped.
  void finish(std::unique_ptr<Ticket> ticket) noexcept;

  // JavaScript thread: rejects at once.
  void reject_now(Napi::Env env, std::unique_ptr<Ticket> ticket, napi_value reason);

  // JavaScript thread, when the environment ends: finish() touches it no more.
  void close();

 private:
  explicit Completions(std::function<void()> on_settled) : on_settled_(std::move(on_settled)) {}
  static void settle(napi_env env, napi_value, void* context, void*);
  void drain(napi_env env);
  void settled(napi_env env);

  std::function<void()> on_settled_;
  napi_threadsafe_function function_ = nullptr;
  int pending_ = 0;  // open promises; JavaScript thread only

  std::mutex mutex_;
  bool closed_ = false;
  Ticket* first_ = nullptr;  // finished, oldest first
  Ticket* last_ = nullptr;
};

}  // namespace swiftkv::addon
