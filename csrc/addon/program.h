// NativeProgram: a checked list of ops that runs as one step.
#pragma once

#include <memory>

#include "addon/handle.h"
#include "core/program.h"

namespace swiftkv::addon {

class ProgramHandle : public Handle<ProgramHandle> {
 public:
  static constexpr Class kClass = Class::program;
  static constexpr const char* kName = "Program";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7707};

  static void define(Napi::Env env);
  explicit ProgramHandle(const Napi::CallbackInfo& info);

 private:
  const std::shared_ptr<Program>& alive() const;

  Napi::Value get_workspace_bytes(const Napi::CallbackInfo& info);
  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value cancel(const Napi::CallbackInfo& info);
  Napi::Value read_buffer(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<Program> program_;
};

// (device, description) => NativeProgram
Napi::Value make_program(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
