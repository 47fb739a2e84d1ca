// NativeTensor: device memory with a dtype, shape and layout.
#pragma once

#include <optional>
#include <string>

#include "addon/handle.h"
#include "core/tensor.h"

namespace swiftkv::addon {

class TensorHandle : public Handle<TensorHandle> {
 public:
  static constexpr Class kClass = Class::tensor;
  static constexpr const char* kName = "Tensor";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7702};

  static void define(Napi::Env env);
  explicit TensorHandle(const Napi::CallbackInfo& info);

  // Throws ERR_INVALID_ARGUMENT for something else and ERR_DISPOSED when its memory is gone.
  static const Tensor& alive(Napi::Value value, const std::string& name) { return from(value, name).alive(); }

 private:
  const Tensor& alive() const;

  Napi::Value get_dtype(const Napi::CallbackInfo& info);
  Napi::Value get_shape(const Napi::CallbackInfo& info);
  Napi::Value get_layout(const Napi::CallbackInfo& info);
  Napi::Value get_byte_length(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write_floats(const Napi::CallbackInfo& info);
  Napi::Value read_floats(const Napi::CallbackInfo& info);
  Napi::Value fill_random(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::optional<Tensor> tensor_;
};

// (device, dtype, shape, layout, part?) => NativeTensor
Napi::Value make_tensor(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
