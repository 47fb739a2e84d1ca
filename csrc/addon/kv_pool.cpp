#include "addon/kv_pool.h"

#include "addon/cache_ref.h"
#include "addon/device.h"

namespace swiftkv::addon {

namespace {

constexpr uint32_t kMaxCaches = 65536;

std::vector<float> read_scale(Napi::Value value, const std::string& name) {
  if (value.IsUndefined()) return {};
  const std::span<float> values = read_floats(value, name);
  return {values.begin(), values.end()};
}

CacheSpec read_spec(Napi::Value value, const std::string& name) {
  const Napi::Object spec = read_object(value, name);
  const auto field = [&](const char* f) { return name + '.' + f; };
  return {
      .num_kv_heads = static_cast<int32_t>(read_int(spec.Get("numKvHeads"), field("numKvHeads"), 1, kMaxInt32)),
      .head_dim = static_cast<int32_t>(read_int(spec.Get("headDim"), field("headDim"), 1, kMaxInt32)),
      .dtype = read_dtype(spec.Get("dtype"), field("dtype"), {DType::f32, DType::bf16, DType::fp8_e4m3}),
      .scales = read_kv_scales(spec.Get("scales"), field("scales")),
      .k_scale = read_scale(spec.Get("kScale"), field("kScale")),
      .v_scale = read_scale(spec.Get("vScale"), field("vScale")),
  };
}

}  // namespace

void KvPoolHandle::define(Napi::Env env) {
  Handle::define(env, {
                          getter<&KvPoolHandle::get_num_blocks>("numBlocks"),
                          getter<&KvPoolHandle::get_num_caches>("numCaches"),
                          getter<&KvPoolHandle::get_block_bytes>("blockBytes"),
                          getter<&KvPoolHandle::get_byte_length>("byteLength"),
                          method<&KvPoolHandle::cache>("cache"),
                          method<&KvPoolHandle::dispose>("dispose"),
                      });
}

KvPoolHandle::KvPoolHandle(const Napi::CallbackInfo& info) : Handle(info) {
  pool_ = take_init<std::shared_ptr<KvPool>>(info);
  tag(info);
}

const std::shared_ptr<KvPool>& KvPoolHandle::alive() const {
  if (!pool_) throw_disposed(Env(), "KV pool");
  pool_->device()->require_open();
  return pool_;
}

Napi::Value KvPoolHandle::get_num_blocks(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), alive()->num_blocks());
}

Napi::Value KvPoolHandle::get_num_caches(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), alive()->num_caches());
}

Napi::Value KvPoolHandle::get_block_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(alive()->block_bytes()));
}

Napi::Value KvPoolHandle::get_byte_length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(alive()->byte_length()));
}

Napi::Value KvPoolHandle::cache(const Napi::CallbackInfo& info) {
  const auto index = static_cast<int32_t>(read_int(info[0], "index", 0, alive()->num_caches() - 1));
  return CacheRefHandle::make(info.Env(), CacheRefHandle::Init{info.This().As<Napi::Object>(), index});
}

Napi::Value KvPoolHandle::dispose(const Napi::CallbackInfo& info) {
  pool_.reset();
  return info.Env().Undefined();
}

Napi::Value make_kv_pool(const Napi::CallbackInfo& info) {
  const std::shared_ptr<OpenDevice> device = DeviceHandle::open_device(info[0]);
  const int64_t num_blocks = read_int(info[1], "numBlocks", 0, kMaxInt32);
  const Napi::Array caches = read_array(info[2], "caches", kMaxCaches);
  std::vector<CacheSpec> specs;
  for (uint32_t i = 0; i < caches.Length(); ++i)
    specs.push_back(read_spec(caches.Get(i), "caches[" + std::to_string(i) + "]"));
  return KvPoolHandle::make(info.Env(), KvPool::create(device, num_blocks, specs));
}

}  // namespace swiftkv::addon
