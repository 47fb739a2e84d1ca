#include "addon/args.h"

#include <cmath>

#include "addon/errors.h"

namespace swiftkv::addon {

namespace {

[[noreturn]] void refuse(Napi::Value value, const std::string& name, const std::string& expected) {
  throw_invalid(value.Env(), "Expected " + expected + " for " + name + " but received " + describe(value));
}

// A shared or resizable buffer could change under a native reader; neither is taken.
template <class Array>
Array read_typed(Napi::Value value, const std::string& name, napi_typedarray_type type, const char* expected) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) refuse(value, name, expected);
  Array array = value.As<Array>();
  napi_value buffer = array.ArrayBuffer();
  bool is_plain = false;
  if (napi_is_arraybuffer(value.Env(), buffer, &is_plain) != napi_ok || !is_plain)
    refuse(value, name, std::string(expected) + " over an ArrayBuffer");
  return array;
}

}  // namespace

std::string describe(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number: {
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", value.As<Napi::Number>().DoubleValue());
      return text;
    }
    case napi_string: {
      const std::string text = value.As<Napi::String>().Utf8Value();
      return text.size() <= 64 ? '"' + text + '"' : "a string of " + std::to_string(text.size()) + " bytes";
    }
    case napi_symbol: return "a symbol";
    case napi_object: return value.IsArray() ? "an array" : value.IsTypedArray() ? "a typed array" : "an object";
    case napi_function: return "a function";
    case napi_external: return "an external";
    case napi_bigint: return "a bigint";
  }
  return "something else";
}

int64_t read_int(Napi::Value value, const std::string& name, int64_t min, int64_t max) {
  const auto expected = [&] { return "an integer from " + std::to_string(min) + " to " + std::to_string(max); };
  if (!value.IsNumber()) refuse(value, name, expected());
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || number != std::floor(number))
    refuse(value, name, expected());
  return static_cast<int64_t>(number);
}

double read_number(Napi::Value value, const std::string& name) {
  if (!value.IsNumber() || !std::isfinite(value.As<Napi::Number>().DoubleValue()))
    refuse(value, name, "a finite number");
  return value.As<Napi::Number>().DoubleValue();
}

bool read_bool(Napi::Value value, const std::string& name) {
  if (!value.IsBoolean()) refuse(value, name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string read_string(Napi::Value value, const std::string& name) {
  if (!value.IsString()) refuse(value, name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object read_object(Napi::Value value, const std::string& name) {
  if (!value.IsObject() || value.IsFunction()) refuse(value, name, "an object");
  return value.As<Napi::Object>();
}

Napi::Array read_array(Napi::Value value, const std::string& name, uint32_t max) {
  if (!value.IsArray()) refuse(value, name, "an array");
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > max)
    throw_invalid(value.Env(), "Expected at most " + std::to_string(max) + " elements for " + name + " but received " +
                                   std::to_string(array.Length()));
  return array;
}

DType read_dtype(Napi::Value value, const std::string& name, std::initializer_list<DType> allowed) {
  std::string expected = "one of";
  for (const DType t : allowed) (expected += ' ') += dtype_name(t);
  if (!value.IsString()) refuse(value, name, expected);
  const std::string text = value.As<Napi::String>().Utf8Value();
  for (const DType t : allowed)
    if (text == dtype_name(t)) return t;
  refuse(value, name, expected);
}

DType read_dtype(Napi::Value value, const std::string& name) {
  return read_dtype(
      value, name,
      {DType::f32, DType::bf16, DType::f16, DType::fp8_e4m3, DType::i32, DType::u8, DType::int8, DType::int4});
}

Layout read_layout(Napi::Value value, const std::string& name) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
  for (const Layout layout : {Layout::row_major, Layout::panels})
    if (text == layout_name(layout)) return layout;
  refuse(value, name, "row_major or panels");
}

KvScales read_kv_scales(Napi::Value value, const std::string& name) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
  if (text == "none") return KvScales::none;
  if (text == "dynamic") return KvScales::dynamic;
  if (text == "per_head") return KvScales::per_head;
  refuse(value, name, "none, dynamic or per_head");
}

std::span<float> read_floats(Napi::Value value, const std::string& name) {
  auto array = read_typed<Napi::Float32Array>(value, name, napi_float32_array, "a Float32Array");
  return {array.Data(), array.ElementLength()};
}

std::span<int32_t> read_ints(Napi::Value value, const std::string& name) {
  auto array = read_typed<Napi::Int32Array>(value, name, napi_int32_array, "an Int32Array");
  return {array.Data(), array.ElementLength()};
}

std::span<uint8_t> read_bytes(Napi::Value value, const std::string& name) {
  auto array = read_typed<Napi::Uint8Array>(value, name, napi_uint8_array, "a Uint8Array");
  return {array.Data(), array.ElementLength()};
}

Napi::ArrayBuffer new_buffer(Napi::Env env, size_t bytes) {
  // V8 ends the process when it cannot allocate a buffer of its own, so all but small ones are allocated here.
  constexpr size_t kLarge = size_t{1} << 20;
  constexpr size_t kMaxBytes = (size_t{1} << 32) - 4;  // Node's largest external buffer is below 4 GiB
  if (bytes > kMaxBytes)
    throw Error(Code::invalid_argument,
                "an array of " + std::to_string(bytes) + " bytes is too large; at most " + std::to_string(kMaxBytes));
  if (bytes < kLarge) return Napi::ArrayBuffer::New(env, bytes);
  auto* data = new std::byte[bytes];
  napi_value buffer = nullptr;
  const napi_status status = napi_create_external_arraybuffer(
      env, data, bytes, [](napi_env, void* memory, void*) { delete[] static_cast<std::byte*>(memory); }, nullptr,
      &buffer);
  if (status == napi_ok) return Napi::ArrayBuffer(env, buffer);
  delete[] data;
  throw Napi::Error::New(env);
}

Napi::Float32Array new_floats(Napi::Env env, int64_t count) {
  const auto n = static_cast<size_t>(count);
  return Napi::Float32Array::New(env, n, new_buffer(env, n * sizeof(float)), 0);
}

const char* layout_name(Layout layout) {
  return layout == Layout::panels ? "panels" : "row_major";
}

}  // namespace swiftkv::addon
