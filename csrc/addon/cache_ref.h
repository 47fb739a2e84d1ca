// NativeCacheRef: one cache of a pool, as an operand.
#pragma once

#include <string>
#include <vector>

#include "addon/handle.h"
#include "core/kv_pool.h"

namespace swiftkv::addon {

class CacheRefHandle : public Handle<CacheRefHandle> {
 public:
  static constexpr Class kClass = Class::cache_ref;
  static constexpr const char* kName = "CacheRef";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7704};
  struct Init {
    Napi::Object pool;
    int32_t index;
  };

  static void define(Napi::Env env);
  explicit CacheRefHandle(const Napi::CallbackInfo& info);

  // Throws ERR_INVALID_ARGUMENT for something else and ERR_DISPOSED when the pool is gone.
  static CacheRef alive(Napi::Value value, const std::string& name);

 private:
  Napi::Value get_pool(const Napi::CallbackInfo& info);
  Napi::Value get_index(const Napi::CallbackInfo& info);

  Napi::ObjectReference pool_;  // strong: the pool's handle lives as long as this one
  int32_t index_ = 0;
};

// CacheRef[]
std::vector<CacheRef> read_caches(Napi::Value value, const std::string& name);

}  // namespace swiftkv::addon
