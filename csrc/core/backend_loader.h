// Finds a backend's table: `cpu` is built in, others are side libraries opened by path.
#pragma once

#include <memory>
#include <string>

#include "core/backend.h"

namespace swiftkv {

struct LoadedBackend {
  const BackendTable* table;
  std::shared_ptr<void> image;  // keeps the code of the table loaded; null for cpu
};

// `backend` is "cpu" or the absolute path of a side library exporting swiftkv_backend. Throws Error: unsupported when
// the library cannot be opened or speaks another ABI.
LoadedBackend load_backend(const std::string& backend);

}  // namespace swiftkv
