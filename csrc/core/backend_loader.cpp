// dlopen, the ABI check and their error texts.
#include "core/backend_loader.h"

#include <dlfcn.h>

namespace swiftkv {
namespace {

constexpr const char* kEntry = "swiftkv_backend";

std::string reason() {
  const char* text = dlerror();
  return text != nullptr ? text : "unknown reason";
}

bool complete(const BackendTable& t) {
  const bool ordered =
      t.describe && t.allocate_host && t.release_host && t.enqueue_upload && t.enqueue_download && t.synchronize;
  return (t.host_memory || ordered) && t.name && t.open && t.close && t.allocate && t.touch && t.release && t.upload &&
         t.download && t.matrix_bytes && t.pack && t.unpack && t.scratch_bytes && t.run;
}

}  // namespace

LoadedBackend load_backend(const std::string& backend) {
  if (backend == "cpu") return {cpu_backend(), nullptr};
  if (backend.empty() || backend[0] != '/') {
    throw Error(Code::unsupported,
                "Expected cpu or the absolute path of a backend library for backend but received '" + backend + "'");
  }
  void* handle = dlopen(backend.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw Error(Code::unsupported, "backend library could not be opened: " + reason());
  std::shared_ptr<void> image(handle, [](void* h) { dlclose(h); });

  const auto entry = reinterpret_cast<const BackendTable* (*)()>(dlsym(handle, kEntry));
  if (entry == nullptr) {
    throw Error(Code::unsupported, backend + " is no swiftkv backend: it does not export " + kEntry);
  }
  const BackendTable* table = entry();
  if (table == nullptr) throw Error(Code::unsupported, backend + ": " + kEntry + " returned no table");
  if (table->abi != kBackendAbi) {
    throw Error(Code::unsupported, backend + " speaks backend ABI " + std::to_string(table->abi) +
                                       ", this build needs " + std::to_string(kBackendAbi) +
                                       ": install the library of the same swiftkv version");
  }
  if (!complete(*table)) throw Error(Code::unsupported, backend + ": its backend table lacks functions");
  return {table, std::move(image)};
}

}  // namespace swiftkv
