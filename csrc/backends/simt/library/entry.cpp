// What the side library exports.
#include "backends/cuda/backend_table.h"

extern "C" [[gnu::visibility("default")]] const swiftkv::BackendTable* swiftkv_backend() {
  return swiftkv::cuda::backend_table();
}
