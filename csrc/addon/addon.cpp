// The addon's exports: lib/native/binding.ts describes them.
#include <napi.h>

#include "addon/batch.h"
#include "addon/cache_ref.h"
#include "addon/conversions.h"
#include "addon/cpu_info.h"
#include "addon/device.h"
#include "addon/environment.h"
#include "addon/errors.h"
#include "addon/kv_pool.h"
#include "addon/load.h"
#include "addon/program.h"
#include "addon/sampler_table.h"
#include "addon/tensor.h"
#include "core/ops.h"

namespace swiftkv::addon {

namespace {

template <Function F>
void add(Napi::Env env, Napi::Object exports, const char* name) {
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, entry<F>, nullptr, &function) != napi_ok)
    throw Napi::Error::New(env);
  exports.Set(name, function);
}

void fill(Napi::Env env, Napi::Object exports) {
  Environment::install(env);
  DeviceHandle::define(env);
  TensorHandle::define(env);
  KvPoolHandle::define(env);
  CacheRefHandle::define(env);
  SamplerTableHandle::define(env);
  BatchHandle::define(env);
  ProgramHandle::define(env);
  LoadHandle::define(env);

  exports.Set("version", SWIFTKV_VERSION);
  exports.Set("blockTokens", kBlockTokens);
  add<cpu_info>(env, exports, "cpuInfo");
  add<resident_bytes_now>(env, exports, "residentBytes");
  add<environment_memory>(env, exports, "memory");
  add<open_device>(env, exports, "openDevice");
  add<make_tensor>(env, exports, "tensor");
  add<make_kv_pool>(env, exports, "kvPool");
  add<make_sampler_table>(env, exports, "samplerTable");
  add<make_batch>(env, exports, "batch");
  add<make_program>(env, exports, "program");
  add<load_weights>(env, exports, "loadWeights");
  add<convert>(env, exports, "convert");
  add<convert_back>(env, exports, "convertBack");
}

}  // namespace

}  // namespace swiftkv::addon

NAPI_MODULE_INIT() {
  return swiftkv::addon::barrier(env, [&]() -> napi_value {
    swiftkv::addon::fill(env, Napi::Object(env, exports));
    return exports;
  });
}
