#include "addon/device.h"

#include <charconv>
#include <optional>

#include "addon/operand_args.h"
#include "addon/tensor.h"
#include "backends/cpu/level.h"
#include "core/backend_loader.h"
#include "core/peak.h"
#include "core/touch_memory.h"

namespace swiftkv::addon {

namespace {

constexpr int64_t kMaxThreads = 4096;

// The cpu backend has named ISA levels; for another one the level is the index of a device.
int32_t level_number(Napi::Env env, const std::string& backend, const std::string& level) {
  if (backend == "cpu") {
    for (const cpu::CpuLevel l : cpu::kAllLevels)
      if (level == cpu::level_name(l)) return static_cast<int32_t>(l);
  } else {
    int32_t number = 0;
    const char* end = level.data() + level.size();
    if (const auto parsed = std::from_chars(level.data(), end, number);
        parsed.ec == std::errc() && parsed.ptr == end && number >= 0)
      return number;
  }
  throw_invalid(env, "Expected " + std::string(backend == "cpu" ? "an ISA level" : "a device index") +
                         " for level but received \"" + level + '"');
}

Napi::Object memory_object(Napi::Env env, const MemoryUse& use) {
  Napi::Object object = Napi::Object::New(env);
  size_t total = 0;  // of the numbers shown, also while other threads allocate
  for (int i = 0; i < kMemoryPartCount; ++i) {
    const size_t bytes = use.bytes(static_cast<MemoryPart>(i));
    object.Set(std::string(kMemoryPartNames[static_cast<size_t>(i)]), static_cast<double>(bytes));
    total += bytes;
  }
  object.Set("total", static_cast<double>(total));
  return object;
}

std::unique_ptr<OpCall> read_call(const std::shared_ptr<OpenDevice>& device, const Napi::CallbackInfo& info) {
  const std::string op = read_string(info[0], "op");
  OperandList operands = read_operands(info[1]);
  return std::make_unique<OpCall>(device, op, std::move(operands), read_attrs(info[2]));
}

}  // namespace

void DeviceHandle::define(Napi::Env env) {
  Handle::define(env, {
                          method<&DeviceHandle::run>("run"),
                          method<&DeviceHandle::run_sync>("runSync"),
                          method<&DeviceHandle::touch>("touch"),
                          method<&DeviceHandle::measure_peak>("measurePeak"),
                          method<&DeviceHandle::memory>("memory"),
                          method<&DeviceHandle::describe>("describe"),
                          method<&DeviceHandle::close>("close"),
                          getter<&DeviceHandle::get_backend>("backend"),
                          getter<&DeviceHandle::get_threads>("threads"),
                          getter<&DeviceHandle::get_allocated_bytes>("allocatedBytes"),
                      });
}

DeviceHandle::DeviceHandle(const Napi::CallbackInfo& info) : Handle(info) {
  device_ = take_init<std::shared_ptr<OpenDevice>>(info);
  tag(info);
}

const std::shared_ptr<OpenDevice>& DeviceHandle::open_device(Napi::Value value) {
  const DeviceHandle& self = from(value, "device");
  self.device_->require_open();
  return self.device_;
}

Napi::Value DeviceHandle::run(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return environment.promised(info.Env(), [&](const std::shared_ptr<Pending>& pending) {
    device_->require_open();
    const std::shared_ptr<OpCall> call = read_call(device_, info);
    environment.executor().submit(device_.get(), {.work = [call] { call->run(); },
                                                  .cancel = {},
                                                  .done = [pending](const Error* error) { pending->settle(error); }});
  });
}

Napi::Value DeviceHandle::run_sync(const Napi::CallbackInfo& info) {
  device_->require_open();
  const std::shared_ptr<OpCall> call = read_call(device_, info);
  Environment::of(info.Env()).executor().run_here([&] { call->run(); });
  return info.Env().Undefined();
}

Napi::Value DeviceHandle::touch(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return environment.promised(info.Env(), [&](const std::shared_ptr<Pending>& pending) {
    device_->require_open();
    const auto touch = std::make_shared<TouchMemory>(device_, environment.executor().pool(device_->threads()));
    environment.executor().submit(device_.get(), {.work = [touch] { touch->run(); },
                                                  .cancel = [touch] { touch->cancel(); },
                                                  .done = [pending](const Error* error) { pending->settle(error); }});
  });
}

Napi::Value DeviceHandle::measure_peak(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return environment.promised(info.Env(), [&](const std::shared_ptr<Pending>& pending) {
    device_->require_open();
    const std::string name = read_string(info[0], "kind");
    const std::optional<PeakKind> kind = find_peak(name);
    if (!kind) throw Error(Code::invalid_argument, "Expected the name of a peak for kind but received \"" + name + '"');
    const double ms = read_number(info[1], "ms");
    std::optional<Tensor> memory;
    if (!info[2].IsUndefined()) memory = TensorHandle::alive(info[2], "memory");
    const auto per_second = std::make_shared<double>(0);
    environment.executor().submit(
        device_.get(),
        {.work = [device = device_, kind = *kind, ms, memory,
                  per_second] { *per_second = swiftkv::measure_peak(*device, kind, ms, memory ? &*memory : nullptr); },
         .cancel = {},
         .done = [pending, per_second](const Error* error) { pending->settle(error, *per_second, "perSecond"); }});
  });
}

Napi::Value DeviceHandle::close(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  environment.stop_loads(device_.get());
  environment.executor().drain(device_.get());
  device_->close();
  return info.Env().Undefined();
}

Napi::Value DeviceHandle::get_backend(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), device_->table().name);
}

Napi::Value DeviceHandle::get_threads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), device_->threads());
}

Napi::Value DeviceHandle::get_allocated_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(device_->allocated_bytes()));
}

Napi::Value DeviceHandle::memory(const Napi::CallbackInfo& info) {
  return memory_object(info.Env(), *device_->memory());
}

Napi::Value DeviceHandle::describe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  device_->require_open();
  if (device_->table().describe == nullptr) return env.Null();
  DeviceInfo device = {};
  check(device_->table().describe(device_->handle(), &device));
  Napi::Object object = Napi::Object::New(env);
  object.Set("name", static_cast<const char*>(device.name));
  object.Set("arch", static_cast<const char*>(device.arch));
  object.Set("totalBytes", static_cast<double>(device.total_bytes));
  object.Set("freeBytes", static_cast<double>(device.free_bytes));
  object.Set("multiprocessors", device.num_sms);
  object.Set("sharedBytes", device.shared_bytes);
  object.Set("driverVersion", device.driver_version);
  object.Set("runtimeVersion", device.runtime_version);
  object.Set("linear", static_cast<const char*>(device.linear));
  object.Set("linearReason", static_cast<const char*>(device.linear_reason));
  return object;
}

Napi::Value environment_memory(const Napi::CallbackInfo& info) {
  return memory_object(info.Env(), *Environment::of(info.Env()).memory());
}

Napi::Value open_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = read_object(info[0], "options");
  const std::string backend = read_string(options.Get("backend"), "backend");
  const auto threads = static_cast<int32_t>(read_int(options.Get("threads"), "threads", 1, kMaxThreads));
  const int32_t level = level_number(env, backend, read_string(options.Get("level"), "level"));
  DeviceChoices choices;
  if (const Napi::Value given = options.Get("batchInvariant"); !given.IsUndefined())
    choices.batch_invariant = read_bool(given, "batchInvariant");
  if (const Napi::Value given = options.Get("memoryLimit"); !given.IsUndefined())
    choices.memory_limit = static_cast<uint64_t>(read_int(given, "memoryLimit"));
  LoadedBackend loaded = load_backend(backend);
  Environment& environment = Environment::of(env);
  return DeviceHandle::make(env, OpenDevice::open(*loaded.table, level, threads, environment.executor().pool(threads),
                                                  std::move(loaded.image), environment.memory(), choices));
}

}  // namespace swiftkv::addon
