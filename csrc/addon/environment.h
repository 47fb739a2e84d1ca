// All state of one Node environment (main thread or worker): its executor, promises, loads and classes.
#pragma once

#include <napi.h>

#include <array>
#include <atomic>
#include <list>
#include <memory>
#include <thread>

#include "addon/completions.h"
#include "core/executor.h"
#include "core/memory_use.h"
#include "core/weight_loader.h"

namespace swiftkv {
class OpenDevice;
}

namespace swiftkv::addon {

enum class Class : int { device, tensor, kv_pool, cache_ref, sampler_table, batch, program, load, count };

// A promise of native work. Settled once, from any thread; dropping it unsettled rejects.
class Pending {
 public:
  explicit Pending(std::shared_ptr<Completions> completions) : completions_(std::move(completions)) {}
  ~Pending();
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  // Makes the promise, last of all that can fail before the work: a promise that nobody settles would keep the event
  // loop alive. JavaScript thread only.
  void open(Napi::Env env, Napi::Value* promise) { ticket_ = completions_->open(env, promise); }
  // Resolves to { [name]: number }, or to undefined when the number is negative; `name` is a literal.
  void resolve(double number = -1, const char* name = "ms") noexcept;
  void reject(Failure failure) noexcept;
  // Rejects when there is an error.
  void settle(const Error* error, double number = -1, const char* name = "ms") noexcept;
  void reject_now(Napi::Env env, napi_value reason);  // JavaScript thread only

 private:
  std::shared_ptr<Completions> completions_;
  std::unique_ptr<Ticket> ticket_;
};

// A load on a thread of its own, joined by its environment.
struct RunningLoad {
  std::shared_ptr<OpenDevice> device;
  std::shared_ptr<LoadProgress> progress;
  std::atomic<bool> finished{false};
  std::thread thread;
};

class Environment {
 public:
  static void install(Napi::Env env);
  static Environment& of(Napi::Env env);
  ~Environment() { stop(this); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  Executor& executor() { return executor_; }
  // What all devices of the environment hold together.
  const std::shared_ptr<MemoryUse>& memory() const { return memory_; }

  // Runs `start(pending)` and returns the promise; what it throws becomes the rejection.
  template <class F>
  Napi::Value promised(Napi::Env env, F&& start) {
    Napi::Value promise;
    const auto pending = std::make_shared<Pending>(completions_);
    pending->open(env, &promise);
    try {
      start(pending);
    } catch (const Napi::Error& e) {
      pending->reject_now(env, e.Value());
    } catch (...) {
      pending->reject(Failure::current());
    }
    return promise;
  }

  // Starts a thread for the load; `pending` is settled by it.
  void start_load(std::shared_ptr<OpenDevice> device, std::unique_ptr<WeightLoad> load,
                  std::shared_ptr<LoadProgress> progress, std::shared_ptr<Pending> pending);
  // Cancels the loads of a device (null: all) and waits for their threads.
  void stop_loads(const OpenDevice* device);

  void set_constructor(Class c, Napi::Function f) { constructors_[static_cast<size_t>(c)] = Napi::Persistent(f); }
  // Constructs an object with `init`, which its constructor finds in take_init(). Nobody else can construct one.
  Napi::Object construct(Class c, void* init);
  void* take_init() { return std::exchange(init_, nullptr); }

 private:
  explicit Environment(Napi::Env env);
  static void stop(void* self) noexcept;
  void reap_loads();

  std::array<Napi::FunctionReference, static_cast<size_t>(Class::count)> constructors_;
  void* init_ = nullptr;
  std::shared_ptr<Completions> completions_;
  std::shared_ptr<MemoryUse> memory_ = std::make_shared<MemoryUse>();
  std::list<RunningLoad> loads_;
  Executor executor_;
};

}  // namespace swiftkv::addon
