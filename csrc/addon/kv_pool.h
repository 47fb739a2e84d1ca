// NativeKVPool: the paged memory of every distinct cache.
#pragma once

#include <memory>
#include <string>

#include "addon/handle.h"
#include "core/kv_pool.h"

namespace swiftkv::addon {

class KvPoolHandle : public Handle<KvPoolHandle> {
 public:
  static constexpr Class kClass = Class::kv_pool;
  static constexpr const char* kName = "KVPool";
  static constexpr napi_type_tag kTag = {0x8d1f6b0c4a7e4c11, 0xa3b52f0d9c6e7703};

  static void define(Napi::Env env);
  explicit KvPoolHandle(const Napi::CallbackInfo& info);

  const std::shared_ptr<KvPool>& alive() const;

 private:
  Napi::Value get_num_blocks(const Napi::CallbackInfo& info);
  Napi::Value get_num_caches(const Napi::CallbackInfo& info);
  Napi::Value get_block_bytes(const Napi::CallbackInfo& info);
  Napi::Value get_byte_length(const Napi::CallbackInfo& info);
  Napi::Value cache(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  std::shared_ptr<KvPool> pool_;
};

// (device, numBlocks, caches: CacheSpec[]) => NativeKVPool
Napi::Value make_kv_pool(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
