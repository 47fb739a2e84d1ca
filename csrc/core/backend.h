// A backend is a table of C functions with a version. `cpu` is inside the addon; side libraries export
// `const swiftkv::BackendTable* swiftkv_backend(void)` and are opened through the same path.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/ops.h"
#include "core/status.h"

namespace swiftkv {

class ThreadPool;
struct Device;  // a backend's own state, opaque outside it

inline constexpr uint32_t kBackendAbi = 6;

struct DeviceOptions {
  ThreadPool* pool;  // the environment's pool; a backend on another device may ignore it
  int32_t threads;   // how many threads of the pool this device may use, >= 1
  int32_t level;     // cpu: the ISA level to run (CpuLevel), chosen and checked by TypeScript; others: device index
  // Bits of a row never depend on the rows beside it. Without it a backend may choose what is faster for a batch.
  bool batch_invariant = true;
  uint64_t memory_limit =
      0;  // bytes of device memory this device may take, 0: all; a backend on host memory ignores it
};

// What a device is and has, for people to read. Texts are empty and numbers 0 where there is nothing to say.
struct DeviceInfo {
  char name[128];
  char arch[16];            // "sm_90"
  uint64_t total_bytes;     // of its memory
  uint64_t free_bytes;      // that can be taken now: of the memory, and of the limit
  int32_t num_sms;          // streaming multiprocessors
  int32_t shared_bytes_sm;  // shared memory of each
  int32_t shared_bytes;     // of it, what one block may have
  int32_t driver_version;   // the CUDA version that the driver supports, 1000 * major + 10 * minor
  int32_t runtime_version;  // that this library was built with
  char linear[16];          // who multiplies plain matrices: "swiftkv", or a library
  char linear_reason[200];  // why
};

// What an op may use besides its params. scratch holds at least scratch_bytes(kind, params at capacity).
struct OpContext {
  std::byte* scratch;  // device memory, 64-byte aligned
  size_t scratch_bytes;
};

// What of a matrix is packed: its elements, or the scales per output of fp8_e4m3 codes that were packed as they are.
enum class PackTarget : int32_t { values = 0, scales = 1 };

// Rows [dst_row, dst_row + rows) of a weight matrix, from row-major source elements. Floats become what the matrix is,
// quantized with scales of their own where it is fp8_e4m3, int8 or int4. fp8_e4m3 codes go to an fp8_e4m3 matrix only
// and leave its scales alone.
struct PackParams {
  const void* src;  // values: [rows, k] in src_dtype; scales: [rows], or [1] for all rows with repeat
  DType src_dtype;  // f32, bf16, f16; fp8_e4m3 (values only)
  int64_t rows;
  int64_t dst_row;
  Matrix dst;  // data is written; panels or row_major
  PackTarget target = PackTarget::values;
  bool repeat = false;
};

// What a device can do at most, for measurements to compare ops with.
enum class PeakKind : int32_t {
  fma_f32,   // multiply-adds in registers, f32; in operations a second, a multiply-add being two
  dot_bf16,  // products of bf16 pairs added in f32
  dot_int8,  // products of 8-bit integers, four at a time, added in 32 bits
  read,      // bytes a second read from memory
  count
};

constexpr const char* peak_name(PeakKind kind) {
  switch (kind) {
    case PeakKind::fma_f32: return "fma_f32";
    case PeakKind::dot_bf16: return "dot_bf16";
    case PeakKind::dot_int8: return "dot_int8";
    case PeakKind::read: return "read";
    case PeakKind::count: break;
  }
  return "?";
}

struct PeakParams {
  PeakKind kind;
  double ms;         // how long to measure, about
  const void* data;  // read: device memory to go through, at least once; larger than the caches to mean anything
  size_t bytes;
};

// run, measure_peak and what goes with the order of ops (enqueue_upload, enqueue_download, synchronize) are called by
// one thread at a time, which is the only one that may use the pool. Everything else is called from any thread, also
// while a run is in flight (weights load beside steps), and does not touch the pool.
struct BackendTable {
  uint32_t abi;
  const char* name;
  // Device memory is the process's own: pointers to host memory are operands too, and run has ended when it returns.
  // Such a backend leaves out what is marked (device) below.
  bool host_memory;

  Status (*open)(const DeviceOptions* options, Device** out);
  void (*close)(Device* device);

  // (device) What the device is. May be null.
  Status (*describe)(Device* device, DeviceInfo* out);

  // Device memory, 64-byte aligned and zero-filled. It may become resident only when it is first written, or by touch,
  // which keeps what is in it.
  Status (*allocate)(Device* device, size_t bytes, void** out);
  void (*touch)(Device* device, void* data, size_t bytes);
  void (*release)(Device* device, void* data, size_t bytes);
  // Between host memory of any kind and device memory; over when they return, in no order with ops that are under way.
  Status (*upload)(Device* device, void* dst, const void* src, size_t bytes);
  Status (*download)(Device* device, void* dst, const void* src, size_t bytes);

  // (device) Host memory that the device copies from and to by itself, 64-byte aligned and zero-filled.
  Status (*allocate_host)(Device* device, size_t bytes, void** out);
  void (*release_host)(Device* device, void* data, size_t bytes);
  // (device) Copies in order with the ops, between memory of allocate_host and device memory. They do not wait.
  Status (*enqueue_upload)(Device* device, void* dst, const void* src, size_t bytes);
  Status (*enqueue_download)(Device* device, void* dst, const void* src, size_t bytes);
  // (device) Until every op and copy before it has ended. An error that one of them met on the device comes from here.
  Status (*synchronize)(Device* device);

  size_t (*matrix_bytes)(DType dtype, Layout layout, int64_t n, int64_t k);
  Status (*pack)(Device* device, const PackParams* params);
  Status (*unpack)(Device* device, const Matrix* matrix, float* out);  // row-major [n, k]

  size_t (*scratch_bytes)(Device* device, OpKind kind, const void* params);
  // (device) May return before the op has ended, with a few ops under way: a caller that asks a flag between ops stops
  // after those. `params` and `context` are read before it returns.
  Status (*run)(Device* device, OpKind kind, const void* params, const OpContext* context);

  // unsupported where the device has no such instruction. May be null: then it measures nothing.
  Status (*measure_peak)(Device* device, const PeakParams* params, double* per_second);
};

const BackendTable* cpu_backend();

}  // namespace swiftkv
