#include "addon/load.h"

#include "addon/device.h"
#include "addon/tensor.h"

namespace swiftkv::addon {

namespace {

constexpr uint32_t kMaxSegments = 1 << 20;

// The destination as rows of equal length; a vector [n] is n rows of one element.
Matrix rows_of(const Tensor& tensor) {
  const TensorView& view = tensor.view;
  int64_t k = 1;
  for (int32_t i = 1; i < view.rank; ++i) k *= view.shape[i].size;
  return {.data = view.data,
          .dtype = view.dtype,
          .layout = view.layout,
          .n = view.rank == 0 ? 1 : view.shape[0].size,
          .k = k};
}

PackTarget read_target(Napi::Value value, const std::string& name) {
  if (value.IsUndefined()) return PackTarget::values;
  const std::string text = read_string(value, name);
  if (text == "values") return PackTarget::values;
  if (text == "scales") return PackTarget::scales;
  throw_invalid(value.Env(), "Expected values or scales for " + name + " but received \"" + text + '"');
}

WeightSegment read_segment(const OpenDevice& device, Napi::Value value, const std::string& name) {
  const Napi::Object object = read_object(value, name);
  const auto integer = [&](const char* f) { return read_int(object.Get(f), name + '.' + f); };
  WeightSegment segment{
      .path = read_string(object.Get("path"), name + ".path"),
      .offset = integer("offset"),
      .dtype = read_dtype(object.Get("dtype"), name + ".dtype", {DType::f32, DType::bf16, DType::f16, DType::fp8_e4m3}),
      .rows = integer("rows"),
      .k = integer("k"),
      .dst = {},
      .dst_row = integer("dstRow"),
      .target = read_target(object.Get("target"), name + ".target"),
      .repeat = object.Get("repeat").IsUndefined() ? false : read_bool(object.Get("repeat"), name + ".repeat"),
      .owner = {},
  };
  if (segment.path.find('\0') != std::string::npos)
    throw_invalid(value.Env(), "Expected a path without NUL for " + name + ".path");
  // Last, because reading the others may run JavaScript.
  const Tensor& dst = TensorHandle::alive(object.Get("dst"), name + ".dst");
  if (dst.storage->device().get() != &device)
    throw_invalid(value.Env(), "Expected a tensor of the same device for " + name + ".dst");
  segment.dst = rows_of(dst);
  if (segment.target == PackTarget::values && segment.dst.k == 1 && segment.rows == 1 && segment.k == segment.dst.n &&
      dst.view.rank == 1)
    std::swap(segment.rows, segment.k);  // a vector given as one row
  segment.owner = dst.storage;
  check_segment(segment);
  return segment;
}

}  // namespace

void LoadHandle::define(Napi::Env env) {
  Handle::define(env, {
                          getter<&LoadHandle::get_loaded_bytes>("loadedBytes"),
                          method<&LoadHandle::cancel>("cancel"),
                      });
}

LoadHandle::LoadHandle(const Napi::CallbackInfo& info) : Handle(info) {
  const Init init = take_init<Init>(info);
  progress_ = init.progress;
  info.This().As<Napi::Object>().DefineProperty(
      Napi::PropertyDescriptor::Value("promise", init.promise, napi_enumerable));
  tag(info);
}

Napi::Value LoadHandle::get_loaded_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(progress_->loaded_bytes()));
}

Napi::Value LoadHandle::cancel(const Napi::CallbackInfo& info) {
  progress_->cancel();
  return info.Env().Undefined();
}

Napi::Value load_weights(const Napi::CallbackInfo& info) {
  const std::shared_ptr<OpenDevice> device = DeviceHandle::open_device(info[0]);
  const Napi::Array array = read_array(info[1], "segments", kMaxSegments);
  std::vector<WeightSegment> segments;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(info.Env());
    segments.push_back(read_segment(*device, array.Get(i), "segments[" + std::to_string(i) + ']'));
  }
  device->require_open();
  const auto progress = std::make_shared<LoadProgress>();
  auto load = std::make_unique<WeightLoad>(device, std::move(segments), progress);
  Environment& environment = Environment::of(info.Env());
  const Napi::Value promise = environment.promised(info.Env(), [&](const std::shared_ptr<Pending>& pending) {
    environment.start_load(device, std::move(load), progress, pending);
  });
  return LoadHandle::make(info.Env(), LoadHandle::Init{progress, promise});
}

}  // namespace swiftkv::addon
