// What this build and this machine can do, for choices made in TypeScript.
#pragma once

#include <napi.h>

namespace swiftkv::addon {

// () => CpuInfo without its quota, which is read from files
Napi::Value cpu_info(const Napi::CallbackInfo& info);
// () => number
Napi::Value resident_bytes_now(const Napi::CallbackInfo& info);

}  // namespace swiftkv::addon
