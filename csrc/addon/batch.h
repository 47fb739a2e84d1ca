// NativeBatch: the integer arrays of one step. They are views of native memory that lives until dispose(), which
// empties them, or as long as any view does.
#pragma once

#include <memory>
#include <string>

#include "addon/handle.h"
#include "core/batch.h"

namespace swiftkv::addon {

// The reference that JavaScript's buffer holds; let go by dispose(), or by the garbage collector.
struct BatchView {
  std::shared_ptr<Batch> batch;
};

class BatchHandle : public Handle<BatchHandle> {
 public:
  static constexpr Class kClass = Class::batch;
  static constexpr const char* kName = "Batch";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7706};

  static void define(Napi::Env env);
  explicit BatchHandle(const Napi::CallbackInfo& info);

  static const std::shared_ptr<Batch>& alive(Napi::Value value, const std::string& name);

 private:
  Napi::Value dispose(const Napi::CallbackInfo& info);
  void define_fields(const Napi::CallbackInfo& info);

  std::shared_ptr<Batch> batch_;
  std::shared_ptr<BatchView> view_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;  // weak: the fields hold it
};

BatchCapacity read_capacity(Napi::Value value, const std::string& name);

// (device, capacity) => NativeBatch
Napi::Value make_batch(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
