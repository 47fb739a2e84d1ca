#include "addon/cpu_info.h"

#include "addon/errors.h"
#include "addon/machine.h"
#include "backends/cpu/level.h"

namespace swiftkv::addon {

namespace {

Napi::Array names(Napi::Env env, const std::vector<cpu::CpuLevel>& levels) {
  Napi::Array array = Napi::Array::New(env, levels.size());
  for (uint32_t i = 0; i < levels.size(); ++i) array.Set(i, cpu::level_name(levels[i]));
  return array;
}

}  // namespace

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::vector<cpu::CpuLevel> built = cpu::built_levels();
  Napi::Object result = Napi::Object::New(env);
  result.Set("arch", cpu_arch());
  result.Set("model", cpu_model());
  result.Set("levels", names(env, cpu::available_levels(cpu::detect(), built)));
  result.Set("builtLevels", names(env, built));
  result.Set("affinity", affinity());
  return result;
}

Napi::Value resident_bytes_now(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(resident_bytes()));
}

}  // namespace swiftkv::addon
