#include "addon/cache_ref.h"

#include "addon/kv_pool.h"

namespace swiftkv::addon {

namespace {

constexpr uint32_t kMaxCaches = 65536;

}  // namespace

void CacheRefHandle::define(Napi::Env env) {
  Handle::define(env, {
                          getter<&CacheRefHandle::get_pool>("pool"),
                          getter<&CacheRefHandle::get_index>("index"),
                      });
}

CacheRefHandle::CacheRefHandle(const Napi::CallbackInfo& info) : Handle(info) {
  const Init init = take_init<Init>(info);
  pool_ = Napi::Persistent(init.pool);
  index_ = init.index;
  tag(info);
}

CacheRef CacheRefHandle::alive(Napi::Value value, const std::string& name) {
  const CacheRefHandle& self = from(value, name);
  return {KvPoolHandle::from(self.pool_.Value(), name).alive(), self.index_};
}

Napi::Value CacheRefHandle::get_pool(const Napi::CallbackInfo&) {
  return pool_.Value();
}

Napi::Value CacheRefHandle::get_index(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), index_);
}

std::vector<CacheRef> read_caches(Napi::Value value, const std::string& name) {
  const Napi::Array array = read_array(value, name, kMaxCaches);
  std::vector<CacheRef> caches;
  for (uint32_t i = 0; i < array.Length(); ++i)
    caches.push_back(CacheRefHandle::alive(array.Get(i), name + '[' + std::to_string(i) + ']'));
  return caches;
}

}  // namespace swiftkv::addon
