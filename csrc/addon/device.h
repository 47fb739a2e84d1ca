// NativeDevice: an opened backend.
#pragma once

#include <memory>

#include "addon/handle.h"
#include "core/device.h"
#include "core/op_call.h"

namespace swiftkv::addon {

class DeviceHandle : public Handle<DeviceHandle> {
 public:
  static constexpr Class kClass = Class::device;
  static constexpr const char* kName = "Device";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7701};
  static void define(Napi::Env env);
  explicit DeviceHandle(const Napi::CallbackInfo& info);

  // The open device of a JavaScript value. Throws ERR_INVALID_ARGUMENT or ERR_DISPOSED.
  static const std::shared_ptr<OpenDevice>& open_device(Napi::Value value);

 private:
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value run_sync(const Napi::CallbackInfo& info);
  Napi::Value measure_peak(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value get_backend(const Napi::CallbackInfo& info);
  Napi::Value get_threads(const Napi::CallbackInfo& info);
  Napi::Value touch(const Napi::CallbackInfo& info);
  Napi::Value get_allocated_bytes(const Napi::CallbackInfo& info);
  Napi::Value describe(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);

  std::shared_ptr<OpenDevice> device_;
};

// () => NativeMemory: of all devices of the environment
Napi::Value environment_memory(const Napi::CallbackInfo& info);
// ({ backend, threads, level, batchInvariant, memoryLimit }) => NativeDevice
Napi::Value open_device(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
