// What the backend's table needs of a CUDA runtime. One implementation calls the real one (runtime_cuda.cpp), one
// stands in for it on the host (csrc/backends/simt/runtime_simt.cpp).
//
// Calls concern the device that the calling thread has chosen with use(). Texts of failures begin with what was being
// done. Streams do not wait for each other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/kernels.h"
#include "core/status.h"

struct CUevent_st;

namespace swiftkv::cuda::runtime {

using Event = CUevent_st*;

struct Properties {
  char name[128];
  char arch[16];  // "sm_90"
  DeviceLimits limits;
  int32_t driver_version;   // the CUDA version that the driver supports, 1000 * major + 10 * minor; 0: none
  int32_t runtime_version;  // of the runtime that is linked
};

// What this backend is called: "cuda" or "simt".
const char* name();

// Code::unsupported, with what was found and the mend, where there is no device that can be used.
Status count_devices(int32_t* count);
Status describe(int32_t device, Properties* out);
// Of the device's memory, for every process together.
Status memory(uint64_t* free, uint64_t* total);

Status use(int32_t device);

// Device memory with anything in it, 256-byte aligned; Code::out_of_memory with an empty message when there is too
// little. release waits for the ops that are under way.
Status allocate(size_t bytes, void** out);
void release(void* data);
// Host memory that copies reach without another copy, 64-byte aligned, with anything in it.
Status allocate_host(size_t bytes, void** out);
void release_host(void* data);

Status create_stream(Stream* out);
void destroy_stream(Stream stream);
// Until all that was queued has ended; its errors come from here.
Status wait(Stream stream);

// In the order of the stream. Between device memory and host memory of any kind; with host memory that is not of
// allocate_host the copy may be over when it returns.
Status copy(void* dst, const void* src, size_t bytes, Stream stream);
Status clear(void* data, size_t bytes, Stream stream);

// An event that has not been recorded has passed.
Status create_event(Event* out);
void destroy_event(Event event);
Status record(Event event, Stream stream);
Status wait(Event event);

}  // namespace swiftkv::cuda::runtime
