#include "addon/batch.h"

#include <algorithm>

#include "addon/device.h"

namespace swiftkv::addon {

namespace {

// One buffer over the whole allocation. Its backing store holds a reference, so a view can outlive the handle, its
// environment's executor and even (after a transfer) its environment.
Napi::ArrayBuffer share(Napi::Env env, const std::shared_ptr<BatchView>& view, int32_t*& base) {
  const std::shared_ptr<Batch>& batch = view->batch;
  base = batch->data(BatchField{0});
  int32_t* end = base;
  for (int i = 0; i < kBatchFieldCount; ++i) {
    const auto field = static_cast<BatchField>(i);
    base = std::min(base, batch->data(field));
    end = std::max(end, batch->data(field) + batch->length(field));
  }
  auto* owner = new std::shared_ptr<BatchView>(view);
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(
      env, base, static_cast<size_t>(end - base) * sizeof(int32_t),
      [](napi_env, void*, void* hint) { delete static_cast<std::shared_ptr<BatchView>*>(hint); }, owner, &buffer);
  if (status == napi_ok) return Napi::ArrayBuffer(env, buffer);
  delete owner;
  if (status == napi_no_external_buffers_allowed)
    throw Error(Code::unsupported, "this JavaScript runtime does not allow buffers over native memory");
  throw Napi::Error::New(env);
}

Napi::Value array_over(Napi::Env env, FieldType type, size_t length, Napi::ArrayBuffer buffer, size_t offset) {
  switch (type) {
    case FieldType::i32: return Napi::Int32Array::New(env, length, buffer, offset);
    case FieldType::u32: return Napi::Uint32Array::New(env, length, buffer, offset);
    case FieldType::f32: return Napi::Float32Array::New(env, length, buffer, offset);
  }
  return env.Undefined();
}

Napi::Object capacity_object(Napi::Env env, const BatchCapacity& capacity) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("maxRows", capacity.max_rows);
  object.Set("maxSeqs", capacity.max_seqs);
  object.Set("maxLogitRows", capacity.max_logit_rows);
  object.Set("maxBlocksPerSeq", capacity.max_blocks_per_seq);
  object.Set("numLayers", capacity.num_layers);
  object.Set("vocabSize", capacity.vocab_size);
  object.Set("maxTopLogprobs", capacity.max_top_logprobs);
  object.Set("maxCopies", capacity.max_copies);
  object.Freeze();
  return object;
}

}  // namespace

BatchCapacity read_capacity(Napi::Value value, const std::string& name) {
  const Napi::Object object = read_object(value, name);
  const auto field = [&](const char* f) {
    return static_cast<int32_t>(read_int(object.Get(f), name + '.' + f, 0, kMaxInt32));
  };
  return {.max_rows = field("maxRows"),
          .max_seqs = field("maxSeqs"),
          .max_logit_rows = field("maxLogitRows"),
          .max_blocks_per_seq = field("maxBlocksPerSeq"),
          .num_layers = field("numLayers"),
          .vocab_size = field("vocabSize"),
          .max_top_logprobs = field("maxTopLogprobs"),
          .max_copies = field("maxCopies")};
}

void BatchHandle::define(Napi::Env env) {
  Handle::define(env, {method<&BatchHandle::dispose>("dispose")});
}

BatchHandle::BatchHandle(const Napi::CallbackInfo& info) : Handle(info) {
  batch_ = take_init<std::shared_ptr<Batch>>(info);
  coded(info.Env(), [&] { define_fields(info); });
  tag(info);
}

void BatchHandle::define_fields(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int32_t* base = nullptr;
  view_ = std::make_shared<BatchView>(batch_);
  Napi::ArrayBuffer buffer = share(env, view_, base);
  buffer_ = Napi::Weak(buffer);
  std::vector<Napi::PropertyDescriptor> properties;
  properties.push_back(Napi::PropertyDescriptor::Value(Napi::String::New(env, "capacity"),
                                                       capacity_object(env, batch_->capacity()), napi_enumerable));
  for (int i = 0; i < kBatchFieldCount; ++i) {
    const auto field = static_cast<BatchField>(i);
    const size_t offset = static_cast<size_t>(batch_->data(field) - base) * sizeof(int32_t);
    const BatchFieldInfo& info_of = batch_field_info(field);
    properties.push_back(Napi::PropertyDescriptor::Value(
        Napi::String::New(env, std::string(info_of.name)),
        array_over(env, info_of.type, static_cast<size_t>(batch_->length(field)), buffer, offset), napi_enumerable));
  }
  info.This().As<Napi::Object>().DefineProperties(properties);
}

const std::shared_ptr<Batch>& BatchHandle::alive(Napi::Value value, const std::string& name) {
  const BatchHandle& self = from(value, name);
  if (!self.batch_) throw_disposed(value.Env(), "batch");
  return self.batch_;
}

// Detached, the fields have no elements any more, so that the memory goes now, or with the step that is reading it. A
// buffer that was transferred elsewhere keeps it.
Napi::Value BatchHandle::dispose(const Napi::CallbackInfo& info) {
  batch_.reset();
  if (view_ == nullptr) return info.Env().Undefined();
  Napi::ArrayBuffer buffer = buffer_.Value();
  if (!buffer.IsEmpty() && !buffer.IsDetached()) {
    buffer.Detach();
    view_->batch.reset();
  }
  view_.reset();
  return info.Env().Undefined();
}

Napi::Value make_batch(const Napi::CallbackInfo& info) {
  const std::shared_ptr<OpenDevice> device = DeviceHandle::open_device(info[0]);
  return BatchHandle::make(info.Env(), Batch::create(read_capacity(info[1], "capacity"), device->memory(), device));
}

}  // namespace swiftkv::addon
