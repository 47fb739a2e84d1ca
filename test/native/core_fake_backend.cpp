#include "core_fake_backend.h"

#include <cstring>
#include <new>

#include "core/op_visit.h"
#include "core/thread_pool.h"

namespace swiftkv::test {
namespace {

FakeDevice& state(Device* device) {
  return *reinterpret_cast<FakeDevice*>(device);
}

Status open(const DeviceOptions*, Device** out) {
  *out = reinterpret_cast<Device*>(new FakeDevice());
  return {};
}

void close(Device* device) {
  delete &state(device);
}

Status allocate(Device* device, size_t bytes, void** out) {
  FakeDevice& d = state(device);
  if (static_cast<int64_t>(d.allocations++) == d.fail_allocation) {
    return fail(Code::out_of_memory, "%zu bytes could not be allocated", bytes);
  }
  *out = ::operator new(bytes, std::align_val_t{64});
  std::memset(*out, 0, bytes);
  d.allocated += bytes;
  return {};
}

void touch(Device* device, void*, size_t bytes) {
  state(device).touched += bytes;
}

void release(Device* device, void* data, size_t bytes) {
  ::operator delete(data, std::align_val_t{64});
  state(device).allocated -= bytes;
}

Status copy(Device*, void* dst, const void* src, size_t bytes) {
  std::memcpy(dst, src, bytes);
  return {};
}

size_t matrix_bytes(DType dtype, Layout, int64_t n, int64_t k) {
  return static_cast<size_t>((n + kPanel - 1) / kPanel * kPanel * k * dtype_bytes(dtype));
}

Status pack(Device*, const PackParams*) {
  return {};
}

Status unpack(Device*, const Matrix* matrix, float* out) {
  std::memset(out, 0, static_cast<size_t>(matrix->n * matrix->k) * sizeof(float));
  return {};
}

size_t scratch_bytes(Device* device, OpKind, const void*) {
  return state(device).scratch;
}

Status run(Device* device, OpKind kind, const void* params, const OpContext*) {
  FakeDevice& d = state(device);
  d.ops.push_back({kind, rows_of(kind, params)});
  return d.on_op ? d.on_op(kind, params) : Status{};
}

}  // namespace

int64_t rows_of(OpKind kind, const void* params) {
  return visit_op(kind, [&](auto op) -> int64_t {
    using Params = typename decltype(op)::Params;
    const auto& p = *static_cast<const Params*>(params);
    if constexpr (requires { p.half.rows; }) {
      return p.half.rows;
    } else if constexpr (std::is_same_v<Params, CopyBlocksParams>) {
      return p.pairs;
    } else if constexpr (std::is_same_v<Params, RopeTableParams>) {
      return p.positions;
    } else {
      return p.rows;
    }
  });
}

const BackendTable& fake_backend() {
  static const BackendTable table = {.abi = kBackendAbi,
                                     .name = "fake",
                                     .host_memory = true,
                                     .open = open,
                                     .close = close,
                                     .describe = nullptr,
                                     .allocate = allocate,
                                     .touch = touch,
                                     .release = release,
                                     .upload = copy,
                                     .download = copy,
                                     .allocate_host = nullptr,
                                     .release_host = nullptr,
                                     .enqueue_upload = nullptr,
                                     .enqueue_download = nullptr,
                                     .synchronize = nullptr,
                                     .matrix_bytes = matrix_bytes,
                                     .pack = pack,
                                     .unpack = unpack,
                                     .scratch_bytes = scratch_bytes,
                                     .run = run,
                                     .measure_peak = nullptr};
  return table;
}

std::shared_ptr<OpenDevice> open_fake(int threads) {
  return OpenDevice::open(fake_backend(), 0, threads, std::make_shared<ThreadPool>(threads));
}

FakeDevice& fake(const OpenDevice& device) {
  return state(device.handle());
}

}  // namespace swiftkv::test
