#include "addon/completions.h"

namespace swiftkv::addon {

namespace {

// Plain Node-API with every status ignored: while an environment is being terminated calls fail, and nothing is owed to
// a promise that nobody can see.
void settle_one(napi_env env, const Ticket& ticket) {
  napi_value value = nullptr;
  if (ticket.failure.code != Code::ok) {
    napi_value code = nullptr, message = nullptr;
    const std::string& text = ticket.failure.message;
    napi_create_string_utf8(env, code_name(ticket.failure.code), NAPI_AUTO_LENGTH, &code);
    napi_create_string_utf8(env, text.data(), text.size(), &message);
    if (napi_create_error(env, code, message, &value) == napi_ok) napi_reject_deferred(env, ticket.deferred, value);
    return;
  }
  if (ticket.number >= 0) {
    napi_value number = nullptr;
    napi_create_object(env, &value);
    napi_create_double(env, ticket.number, &number);
    napi_set_named_property(env, value, ticket.name, number);
  } else {
    napi_get_undefined(env, &value);
  }
  napi_resolve_deferred(env, ticket.deferred, value);
}

}  // namespace

std::shared_ptr<Completions> Completions::create(Napi::Env env, std::function<void()> on_settled) {
  std::shared_ptr<Completions> self(new Completions(std::move(on_settled)));
  const Napi::String name = Napi::String::New(env, "swiftkv");
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, self.get(),
                                                       settle, &self->function_);
  if (status == napi_ok) status = napi_unref_threadsafe_function(env, self->function_);
  if (status != napi_ok) throw Napi::Error::New(env);
  return self;
}

std::unique_ptr<Ticket> Completions::open(Napi::Env env, Napi::Value* promise) {
  auto ticket = std::make_unique<Ticket>();
  napi_value value = nullptr;
  if (napi_create_promise(env, &ticket->deferred, &value) != napi_ok) throw Napi::Error::New(env);
  if (pending_++ == 0) napi_ref_threadsafe_function(env, function_);
  *promise = Napi::Value(env, value);
  return ticket;
}

void Completions::finish(std::unique_ptr<Ticket> ticket) noexcept {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  Ticket* added = ticket.release();
  if (last_ != nullptr) {
    last_->next = added;
    last_ = added;
    return;  // the call that its predecessor made is still to come
  }
  first_ = last_ = added;
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void Completions::reject_now(Napi::Env env, std::unique_ptr<Ticket> ticket, napi_value reason) {
  napi_reject_deferred(env, ticket->deferred, reason);
  settled(env);
}

void Completions::settled(napi_env env) {
  if (--pending_ == 0) napi_unref_threadsafe_function(env, function_);
}

void Completions::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  while (first_ != nullptr) {
    const std::unique_ptr<Ticket> dropped(first_);
    first_ = dropped->next;
  }
  last_ = nullptr;
}

void Completions::settle(napi_env env, napi_value, void* context, void*) {
  if (env != nullptr) static_cast<Completions*>(context)->shared_from_this()->drain(env);
}

void Completions::drain(napi_env env) {
  Ticket* list;
  {
    const std::lock_guard lock(mutex_);
    list = first_;
    first_ = last_ = nullptr;
  }
  while (list != nullptr) {
    const std::unique_ptr<Ticket> ticket(list);
    list = ticket->next;
    settle_one(env, *ticket);
    settled(env);
  }
  on_settled_();
}

}  // namespace swiftkv::addon
