// What all exported classes share: construction by the addon only, a type tag, and the fault barrier around methods.
#pragma once

#include <napi.h>

#include <string>

#include "addon/args.h"
#include "addon/environment.h"
#include "addon/errors.h"

namespace swiftkv::addon {

// Self has: kClass, kName ("Tensor"), kTag, a struct Init, and a constructor (info, Init&&).
template <class Self>
class Handle : public Napi::ObjectWrap<Self> {
 public:
  using Property = Napi::ClassPropertyDescriptor<Self>;

  template <class Init>
  static Napi::Object make(Napi::Env env, Init&& init) {
    return Environment::of(env).construct(Self::kClass, &init);
  }

  // The native half of a JavaScript value; refuses everything that is not one.
  static Self& from(Napi::Value value, const std::string& name) {
    if (!is(value))
      throw_invalid(value.Env(),
                    std::string("Expected a ") + Self::kName + " for " + name + " but received " + describe(value));
    return *Self::Unwrap(value.As<Napi::Object>());
  }

  static bool is(Napi::Value value) {
    bool same = false;
    return value.IsObject() && napi_check_object_type_tag(value.Env(), value, &Self::kTag, &same) == napi_ok && same;
  }

 protected:
  explicit Handle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Self>(info) {}

  // The last step of a constructor: from now on `from` accepts the object.
  void tag(const Napi::CallbackInfo& info) {
    if (napi_type_tag_object(info.Env(), info.This(), &Self::kTag) != napi_ok) throw Napi::Error::New(info.Env());
  }

  template <class Init>
  static Init take_init(const Napi::CallbackInfo& info) {
    auto* init = coded(info.Env(), [&] { return static_cast<Init*>(Environment::of(info.Env()).take_init()); });
    if (init == nullptr)
      throw_invalid(info.Env(), std::string("Illegal constructor: a ") + Self::kName + " is made by the binding");
    return std::move(*init);
  }

  // Node-API gives methods a signature that V8 checks, but not getters: those can be called on anything.
  template <auto Method>
  static napi_value call(napi_env env, napi_callback_info info) {
    return barrier(env, [&]() -> napi_value {
      const Napi::CallbackInfo args(env, info);
      return (from(args.This(), "this").*Method)(args);
    });
  }

  template <auto Method>
  static Property method(const char* name) {
    return Property(napi_property_descriptor{name, nullptr, call<Method>, nullptr, nullptr, nullptr,
                                             static_cast<napi_property_attributes>(napi_writable | napi_configurable),
                                             nullptr});
  }

  template <auto Getter>
  static Property getter(const char* name) {
    return Property(napi_property_descriptor{name, nullptr, nullptr, call<Getter>, nullptr, nullptr,
                                             static_cast<napi_property_attributes>(napi_enumerable | napi_configurable),
                                             nullptr});
  }

  static void define(Napi::Env env, const std::vector<Property>& properties) {
    Environment::of(env).set_constructor(Self::kClass, Self::DefineClass(env, Self::kName, properties));
  }
};

}  // namespace swiftkv::addon
