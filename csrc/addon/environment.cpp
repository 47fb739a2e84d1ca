#include "addon/environment.h"

#include <system_error>

namespace swiftkv::addon {

Pending::~Pending() {
  if (ticket_) reject({Code::aborted, "the work was dropped"});
}

void Pending::resolve(double number, const char* name) noexcept {
  if (!ticket_) return;
  ticket_->number = number;
  ticket_->name = name;
  completions_->finish(std::move(ticket_));
}

void Pending::reject(Failure failure) noexcept {
  if (!ticket_) return;
  ticket_->failure = std::move(failure);
  completions_->finish(std::move(ticket_));
}

void Pending::settle(const Error* error, double number, const char* name) noexcept {
  if (error == nullptr) return resolve(number, name);
  Failure failure{error->code, {}};
  try {
    failure.message = error->what();
  } catch (...) {
    // The code says enough when there is no memory for the message.
  }
  reject(std::move(failure));
}

void Pending::reject_now(Napi::Env env, napi_value reason) {
  if (ticket_) completions_->reject_now(env, std::move(ticket_), reason);
}

void Environment::install(Napi::Env env) {
  std::unique_ptr<Environment> owner(new Environment(env));
  Environment* self = owner.get();
  env.SetInstanceData<Environment>(self);
  owner.release();
  // After the thread-safe function's own hook, so that it runs before it: then nobody calls a closed function.
  if (napi_add_env_cleanup_hook(env, stop, self) != napi_ok) throw Napi::Error::New(env);
}

Environment& Environment::of(Napi::Env env) {
  auto* self = env.GetInstanceData<Environment>();
  if (self == nullptr) throw Error(Code::internal, "the addon has no state in this environment");
  return *self;
}

Environment::Environment(Napi::Env env) : completions_(Completions::create(env, [this] { reap_loads(); })) {}

void Environment::stop(void* self) noexcept {
  auto* environment = static_cast<Environment*>(self);
  environment->stop_loads(nullptr);
  environment->executor_.stop();
  environment->completions_->close();
}

Napi::Object Environment::construct(Class c, void* init) {
  init_ = init;
  const Napi::FunctionReference& constructor = constructors_[static_cast<size_t>(c)];
  try {
    Napi::Object object = constructor.New({});
    init_ = nullptr;
    return object;
  } catch (...) {
    init_ = nullptr;
    throw;
  }
}

void Environment::start_load(std::shared_ptr<OpenDevice> device, std::unique_ptr<WeightLoad> load,
                             std::shared_ptr<LoadProgress> progress, std::shared_ptr<Pending> pending) {
  RunningLoad& running = loads_.emplace_back();
  running.device = std::move(device);
  running.progress = std::move(progress);
  try {
    running.thread = std::thread([&running, load = std::move(load), pending = std::move(pending)]() mutable {
      Failure failure;
      try {
        load->run();
      } catch (...) {
        failure = Failure::current();
      }
      load.reset();
      running.finished.store(true, std::memory_order_release);
      if (failure.code == Code::ok)
        pending->resolve();
      else
        pending->reject(std::move(failure));
    });
  } catch (const std::system_error& e) {
    loads_.pop_back();
    throw Error(Code::out_of_memory, std::string("cannot start a thread to load weights: ") + e.what());
  } catch (...) {
    loads_.pop_back();
    throw;
  }
}

void Environment::reap_loads() {
  loads_.remove_if([](RunningLoad& running) {
    if (!running.finished.load(std::memory_order_acquire)) return false;
    running.thread.join();
    return true;
  });
}

void Environment::stop_loads(const OpenDevice* device) {
  loads_.remove_if([&](RunningLoad& running) {
    if (device != nullptr && running.device.get() != device) return false;
    running.progress->cancel();
    running.thread.join();
    return true;
  });
}

}  // namespace swiftkv::addon
