// What the process may use of the machine it runs on.
#pragma once

#include <cstdint>
#include <string>

namespace swiftkv::addon {

std::string cpu_arch();
std::string cpu_model();

// Logical processors in this process's affinity mask.
int affinity();

// Resident memory of the process in bytes, 0 when the system does not say.
int64_t resident_bytes();

}  // namespace swiftkv::addon
