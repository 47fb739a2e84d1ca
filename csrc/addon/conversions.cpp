#include "addon/conversions.h"

#include <cstring>

#include "addon/args.h"
#include "addon/errors.h"

namespace swiftkv::addon {

namespace {

// Calls f with a value of the dtype's storage type.
template <class F>
void visit_float_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16{});
    case DType::f16: return f(f16{});
    case DType::fp8_e4m3: return f(fp8_e4m3{});
    default: throw Error(Code::internal, std::string("no conversion of ") + dtype_name(dtype));
  }
}

DType read_float_dtype(Napi::Value value) {
  return read_dtype(value, "dtype", {DType::f32, DType::bf16, DType::f16, DType::fp8_e4m3});
}

}  // namespace

Napi::Value convert(const Napi::CallbackInfo& info) {
  const std::span<float> values = read_floats(info[0], "values");
  const DType dtype = read_float_dtype(info[1]);
  const size_t size = values.size() * dtype_bytes(dtype);
  Napi::Uint8Array bytes = Napi::Uint8Array::New(info.Env(), size, new_buffer(info.Env(), size), 0);
  uint8_t* out = bytes.Data();
  visit_float_type(dtype, [&]<class T>(T) {
    for (const float value : values) {
      const T converted = from_f32<T>(value);
      std::memcpy(out, &converted, sizeof converted);
      out += sizeof converted;
    }
  });
  return bytes;
}

Napi::Value convert_back(const Napi::CallbackInfo& info) {
  const std::span<uint8_t> bytes = read_bytes(info[0], "bytes");
  const DType dtype = read_float_dtype(info[1]);
  const size_t size = dtype_bytes(dtype);
  if (bytes.size() % size != 0)
    throw_invalid(info.Env(), "Expected whole elements of " + std::to_string(size) + " bytes but received " +
                                  std::to_string(bytes.size()) + " bytes");
  Napi::Float32Array values = new_floats(info.Env(), static_cast<int64_t>(bytes.size() / size));
  visit_float_type(dtype, [&]<class T>(T) {
    for (size_t i = 0; i < values.ElementLength(); ++i) {
      T value;
      std::memcpy(&value, bytes.data() + i * size, size);
      values[i] = to_f32(value);
    }
  });
  return values;
}

}  // namespace swiftkv::addon
