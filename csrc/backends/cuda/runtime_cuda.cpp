// The CUDA runtime, linked statically: it finds the driver when it is first called, or says that there is none.
#include <cuda_runtime.h>

#include "backends/cuda/launch_nvcc.h"
#include "backends/cuda/runtime.h"

namespace swiftkv::cuda {

namespace {

// Errors after which the process cannot use the device any more, whatever it does.
bool is_final(cudaError_t e) {
  switch (e) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorECCUncorrectable:
    case cudaErrorLaunchTimeout: return true;
    default: return false;
  }
}

Status failed(const char* what, cudaError_t error) {
  cudaGetLastError();  // else an error that is not final would show at the next call too
  if (error == cudaErrorMemoryAllocation)
    return fail(Code::out_of_memory, "%s: the device or the host is out of memory", what);
  return fail(Code::internal, "%s: %s (%s)%s", what, cudaGetErrorName(error), cudaGetErrorString(error),
              is_final(error) ? "; this process can use cuda no more, start another one; cpu still works" : "");
}

}  // namespace

Status launch_failed(const char* name, cudaError_t error) {
  char what[96];
  std::snprintf(what, sizeof what, "launching %s", name);
  return failed(what, error);
}

namespace runtime {

namespace {

Status status(const char* what, cudaError_t error) {
  return error == cudaSuccess ? Status{} : failed(what, error);
}

// A driver says up to which CUDA version it goes; the major version must be this build's.
Status no_device(cudaError_t error) {
  cudaGetLastError();
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
  cudaGetLastError();
  if (driver == 0)
    return fail(Code::unsupported,
                "no CUDA device: no NVIDIA driver was found (libcuda.so.1); install driver 580 or newer, or use the "
                "device cpu");
  if (driver / 1000 < CUDART_VERSION / 1000)
    return fail(Code::unsupported,
                "no CUDA device: the NVIDIA driver is too old: it supports CUDA %d.%d, this build needs %d.0; install "
                "driver 580 or newer, or use the device cpu",
                driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000);
  return fail(Code::unsupported,
              "no CUDA device: the driver (CUDA %d.%d) shows none%s%s; look at nvidia-smi and CUDA_VISIBLE_DEVICES, or "
              "use the device cpu",
              driver / 1000, driver % 1000 / 10, error == cudaSuccess ? "" : ": ",
              error == cudaSuccess ? "" : cudaGetErrorName(error));
}

int attribute(cudaDeviceAttr which, int32_t device) {
  int value = 0;
  if (cudaDeviceGetAttribute(&value, which, device) != cudaSuccess) cudaGetLastError();
  return value;
}

}  // namespace

const char* name() {
  return "cuda";
}

Status count_devices(int32_t* count) {
  *count = 0;
  int found = 0;  // an error leaves it unwritten
  const cudaError_t error = cudaGetDeviceCount(&found);
  if (error != cudaSuccess || found == 0) return no_device(error);
  *count = found;
  return {};
}

Status describe(int32_t device, Properties* out) {
  *out = {};
  cudaDeviceProp properties;
  if (const Status s = status("describing the device", cudaGetDeviceProperties(&properties, device)); !s.ok()) return s;
  std::snprintf(out->name, sizeof out->name, "%.127s", properties.name);
  std::snprintf(out->arch, sizeof out->arch, "sm_%d%d", properties.major, properties.minor);
  out->limits = {.arch = 10 * properties.major + properties.minor,
                 .num_sms = attribute(cudaDevAttrMultiProcessorCount, device),
                 .shared_bytes_block = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                 .shared_bytes_sm = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device)};
  int version = 0;
  if (cudaDriverGetVersion(&version) == cudaSuccess) out->driver_version = version;
  out->runtime_version = CUDART_VERSION;
  return {};
}

Status memory(uint64_t* free, uint64_t* total) {
  size_t f = 0, t = 0;
  const Status s = status("asking for free memory", cudaMemGetInfo(&f, &t));
  *free = f;
  *total = t;
  return s;
}

Status use(int32_t device) {
  return status("choosing the device", cudaSetDevice(device));
}

Status allocate(size_t bytes, void** out) {
  *out = nullptr;
  const cudaError_t error = cudaMalloc(out, bytes);
  if (error == cudaSuccess) return {};
  Status s = failed("allocating device memory", error);
  if (s.code == Code::out_of_memory) s.message[0] = '\0';
  return s;
}

void release(void* data) {
  if (cudaFree(data) != cudaSuccess) cudaGetLastError();
}

Status allocate_host(size_t bytes, void** out) {
  *out = nullptr;
  return status("allocating pinned host memory", cudaHostAlloc(out, bytes, cudaHostAllocPortable));
}

void release_host(void* data) {
  if (cudaFreeHost(data) != cudaSuccess) cudaGetLastError();
}

Status create_stream(Stream* out) {
  return status("creating a stream", cudaStreamCreateWithFlags(out, cudaStreamNonBlocking));
}

void destroy_stream(Stream stream) {
  if (cudaStreamDestroy(stream) != cudaSuccess) cudaGetLastError();
}

Status wait(Stream stream) {
  return status("running on the device", cudaStreamSynchronize(stream));
}

Status copy(void* dst, const void* src, size_t bytes, Stream stream) {
  return status("copying", cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, stream));
}

Status clear(void* data, size_t bytes, Stream stream) {
  return status("clearing memory", cudaMemsetAsync(data, 0, bytes, stream));
}

// Waiting sleeps: a thread that spins for a step would take a core from JavaScript.
Status create_event(Event* out) {
  return status("creating an event", cudaEventCreateWithFlags(out, cudaEventDisableTiming | cudaEventBlockingSync));
}

void destroy_event(Event event) {
  if (cudaEventDestroy(event) != cudaSuccess) cudaGetLastError();
}

Status record(Event event, Stream stream) {
  return status("recording an event", cudaEventRecord(event, stream));
}

Status wait(Event event) {
  return status("running on the device", cudaEventSynchronize(event));
}

}  // namespace runtime

}  // namespace swiftkv::cuda
