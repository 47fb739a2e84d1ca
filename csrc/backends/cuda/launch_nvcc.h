// Launching with nvcc: one plain function instead of <<<>>>, the same as on the host side (csrc/backends/simt).
#pragma once

#include <cuda_runtime.h>

#include "core/status.h"

namespace swiftkv::cuda {

Status launch_failed(const char* name, cudaError_t error);  // runtime_cuda.cpp

// Queues `kernel` on the stream. shared_bytes is dynamic shared memory; above 48 KiB the kernel's limit is raised.
template <class... Params, class... Args>
Status launch(const char* name, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
              cudaStream_t stream, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return {};
  if (shared_bytes > 48 * 1024) {
    const cudaError_t raised =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
    if (raised != cudaSuccess) return launch_failed(name, raised);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
  return error == cudaSuccess ? Status{} : launch_failed(name, error);
}

}  // namespace swiftkv::cuda
