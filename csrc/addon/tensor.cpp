#include "addon/tensor.h"

#include "addon/device.h"
#include "core/fill_random.h"

namespace swiftkv::addon {

void TensorHandle::define(Napi::Env env) {
  Handle::define(env, {
                          getter<&TensorHandle::get_dtype>("dtype"),
                          getter<&TensorHandle::get_shape>("shape"),
                          getter<&TensorHandle::get_layout>("layout"),
                          getter<&TensorHandle::get_byte_length>("byteLength"),
                          method<&TensorHandle::write>("write"),
                          method<&TensorHandle::read>("read"),
                          method<&TensorHandle::write_floats>("writeFloats"),
                          method<&TensorHandle::read_floats>("readFloats"),
                          method<&TensorHandle::fill_random>("fillRandom"),
                          method<&TensorHandle::dispose>("dispose"),
                      });
}

TensorHandle::TensorHandle(const Napi::CallbackInfo& info) : Handle(info) {
  tensor_ = take_init<Tensor>(info);
  tag(info);
}

const Tensor& TensorHandle::alive() const {
  if (!tensor_) throw_disposed(Env(), "tensor");
  tensor_->require_alive();
  return *tensor_;
}

Napi::Value TensorHandle::get_dtype(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), dtype_name(alive().view.dtype));
}

Napi::Value TensorHandle::get_shape(const Napi::CallbackInfo& info) {
  const TensorView& view = alive().view;
  Napi::Array shape = Napi::Array::New(info.Env(), view.rank);
  for (int32_t i = 0; i < view.rank; ++i) shape.Set(i, static_cast<double>(view.shape[i].size));
  return shape;
}

Napi::Value TensorHandle::get_layout(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), layout_name(alive().view.layout));
}

Napi::Value TensorHandle::get_byte_length(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(alive().storage->bytes()));
}

Napi::Value TensorHandle::write(const Napi::CallbackInfo& info) {
  const std::span<uint8_t> bytes = read_bytes(info[0], "bytes");
  const int64_t offset = info[1].IsUndefined() ? 0 : read_int(info[1], "byteOffset");
  write_bytes(alive(), static_cast<size_t>(offset), bytes.data(), bytes.size());
  return info.Env().Undefined();
}

Napi::Value TensorHandle::read(const Napi::CallbackInfo& info) {
  const std::span<uint8_t> bytes = read_bytes(info[0], "bytes");
  const int64_t offset = info[1].IsUndefined() ? 0 : read_int(info[1], "byteOffset");
  swiftkv::read_bytes(alive(), static_cast<size_t>(offset), bytes.data(), bytes.size());
  return info.Env().Undefined();
}

Napi::Value TensorHandle::write_floats(const Napi::CallbackInfo& info) {
  const std::span<float> values = addon::read_floats(info[0], "values");
  swiftkv::write_floats(alive(), values.data(), static_cast<int64_t>(values.size()));
  return info.Env().Undefined();
}

Napi::Value TensorHandle::read_floats(const Napi::CallbackInfo& info) {
  const Tensor& tensor = alive();
  Napi::Float32Array values = new_floats(info.Env(), tensor.view.count());
  swiftkv::read_floats(tensor, values.Data(), tensor.view.count());
  return values;
}

Napi::Value TensorHandle::fill_random(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return environment.promised(info.Env(), [&](const std::shared_ptr<Pending>& pending) {
    const Tensor& tensor = alive();
    const auto seed = static_cast<uint64_t>(read_int(info[0], "seed"));
    const double scale = read_number(info[1], "scale");
    const std::shared_ptr<OpenDevice>& device = tensor.storage->device();
    const auto fill = std::make_shared<RandomFill>(tensor, seed, static_cast<float>(scale),
                                                   environment.executor().pool(device->threads()));
    environment.executor().submit(device.get(), {.work = [fill] { fill->run(); },
                                                 .cancel = [fill] { fill->cancel(); },
                                                 .done = [pending](const Error* error) { pending->settle(error); }});
  });
}

Napi::Value TensorHandle::dispose(const Napi::CallbackInfo& info) {
  tensor_.reset();
  return info.Env().Undefined();
}

static MemoryPart read_part(Napi::Value value) {
  if (value.IsUndefined()) return MemoryPart::tensors;
  const std::string text = read_string(value, "part");
  for (const MemoryPart part : {MemoryPart::tensors, MemoryPart::weights, MemoryPart::rope_table})
    if (text == kMemoryPartNames[static_cast<size_t>(part)]) return part;
  throw_invalid(value.Env(), "Expected tensors, weights or ropeTable for part but received \"" + text + '"');
}

Napi::Value make_tensor(const Napi::CallbackInfo& info) {
  const std::shared_ptr<OpenDevice>& device = DeviceHandle::open_device(info[0]);
  const DType dtype = read_dtype(info[1], "dtype");
  const Napi::Array dims = read_array(info[2], "shape", kMaxRank);
  std::vector<int64_t> shape;
  for (uint32_t i = 0; i < dims.Length(); ++i)
    shape.push_back(read_int(dims.Get(i), "shape[" + std::to_string(i) + "]"));
  const Layout layout = read_layout(info[3], "layout");
  return TensorHandle::make(info.Env(), swiftkv::make_tensor(device, dtype, shape, layout, read_part(info[4])));
}

}  // namespace swiftkv::addon
