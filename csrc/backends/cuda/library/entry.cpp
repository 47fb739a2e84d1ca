// What the side library exports.
#include "backends/cuda/backend_table.h"

extern "C" __attribute__((visibility("default"))) const swiftkv::BackendTable* swiftkv_backend() {
  return swiftkv::cuda::backend_table();
}
