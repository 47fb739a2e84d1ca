// Reading JavaScript values with a check: every reader throws ERR_INVALID_ARGUMENT with the name of what it read.
#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/ops.h"

namespace swiftkv::addon {

// The largest integer that a JavaScript number holds exactly.
inline constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;
inline constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();

int64_t read_int(Napi::Value value, const std::string& name, int64_t min = 0, int64_t max = kMaxSafeInteger);
double read_number(Napi::Value value, const std::string& name);  // finite
bool read_bool(Napi::Value value, const std::string& name);
std::string read_string(Napi::Value value, const std::string& name);
Napi::Object read_object(Napi::Value value, const std::string& name);
// At most `max` elements; the array's own length is not trusted further.
Napi::Array read_array(Napi::Value value, const std::string& name, uint32_t max);

DType read_dtype(Napi::Value value, const std::string& name, std::initializer_list<DType> allowed);
DType read_dtype(Napi::Value value, const std::string& name);
Layout read_layout(Napi::Value value, const std::string& name);
KvScales read_kv_scales(Napi::Value value, const std::string& name);

// Views of typed arrays: valid until JavaScript runs again.
std::span<float> read_floats(Napi::Value value, const std::string& name);
std::span<int32_t> read_ints(Napi::Value value, const std::string& name);
std::span<uint8_t> read_bytes(Napi::Value value, const std::string& name);

// Uninitialised. They throw out_of_memory where V8 would end the process.
Napi::ArrayBuffer new_buffer(Napi::Env env, size_t bytes);
Napi::Float32Array new_floats(Napi::Env env, int64_t count);

const char* layout_name(Layout layout);

// What to call a value in a message: "null", "a string", "-3".
std::string describe(Napi::Value value);

}  // namespace swiftkv::addon
