// NativeSamplerTable: the samplers of running sequences, by slot.
#pragma once

#include <memory>
#include <string>

#include "addon/handle.h"
#include "core/sampler_table.h"

namespace swiftkv::addon {

class SamplerTableHandle : public Handle<SamplerTableHandle> {
 public:
  static constexpr Class kClass = Class::sampler_table;
  static constexpr const char* kName = "SamplerTable";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7705};

  static void define(Napi::Env env);
  explicit SamplerTableHandle(const Napi::CallbackInfo& info);

  static const std::shared_ptr<SamplerTable>& alive(Napi::Value value, const std::string& name) {
    return from(value, name).alive();
  }

 private:
  const std::shared_ptr<SamplerTable>& alive() const;

  Napi::Value get_capacity(const Napi::CallbackInfo& info);
  Napi::Value set(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<SamplerTable> table_;
};

// (device, capacity, vocabSize) => NativeSamplerTable
Napi::Value make_sampler_table(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
