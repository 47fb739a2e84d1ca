// NativeLoad: weights on their way from files into tensors.
#pragma once

#include <memory>

#include "addon/handle.h"
#include "core/weight_loader.h"

namespace swiftkv::addon {

class LoadHandle : public Handle<LoadHandle> {
 public:
  static constexpr Class kClass = Class::load;
  static constexpr const char* kName = "Load";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7708};
  struct Init {
    std::shared_ptr<LoadProgress> progress;
    Napi::Value promise;
  };

  static void define(Napi::Env env);
  explicit LoadHandle(const Napi::CallbackInfo& info);

 private:
  Napi::Value get_loaded_bytes(const Napi::CallbackInfo& info);
  Napi::Value cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<LoadProgress> progress_;
};

// (device, segments) => NativeLoad
Napi::Value load_weights(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
