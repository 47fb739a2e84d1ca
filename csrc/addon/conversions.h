// Exact dtype conversions for tables and tests.
#pragma once

#include <napi.h>

namespace swiftkv::addon {

// (values: Float32Array, dtype) => Uint8Array
Napi::Value convert(const Napi::CallbackInfo& info);
// (bytes: Uint8Array, dtype) => Float32Array
Napi::Value convert_back(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
