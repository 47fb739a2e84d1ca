// The backend's table: memory and order by CudaDevice, ops to the launchers of kernels.h. Plain C++ for both worlds.
#include <algorithm>
#include <cstring>

#include "backends/cuda/backend_table.h"
#include "backends/cuda/cuda_device.h"
#include "backends/cuda/kernels.h"
#include "backends/cuda/pack.h"
#include "core/op_visit.h"

namespace swiftkv::cuda {

namespace {

CudaDevice& cuda_device(Device* device) {
  return *reinterpret_cast<CudaDevice*>(device);
}

// Calls f(the device) once the calling thread has chosen it.
template <class F>
Status on(Device* device, F&& f) {
  CudaDevice& d = cuda_device(device);
  const Status s = d.use();
  return s.ok() ? f(d) : s;
}

Status open_device(const DeviceOptions* options, Device** out) {
  *out = nullptr;
  std::unique_ptr<CudaDevice> device;
  const Status s = CudaDevice::open(*options, &device);
  if (s.ok()) *out = reinterpret_cast<Device*>(device.release());
  return s;
}

void close_device(Device* device) {
  delete &cuda_device(device);
}

Status describe(Device* device, DeviceInfo* out) {
  return on(device, [&](const CudaDevice& d) { return d.describe(out); });
}

Status allocate(Device* device, size_t bytes, void** out) {
  *out = nullptr;
  return on(device, [&](CudaDevice& d) { return d.allocate(bytes, out); });
}

void touch(Device*, void*, size_t) {}  // resident from the start

void release(Device* device, void* data, size_t bytes) {
  (void)on(device, [&](CudaDevice& d) {
    d.release(data, bytes);
    return Status{};
  });
}

Status upload(Device* device, void* dst, const void* src, size_t bytes) {
  return on(device, [&](CudaDevice& d) { return d.upload(dst, src, bytes); });
}

Status download(Device* device, void* dst, const void* src, size_t bytes) {
  return on(device, [&](CudaDevice& d) { return d.download(dst, src, bytes); });
}

Status allocate_host(Device* device, size_t bytes, void** out) {
  *out = nullptr;
  const Status s = on(device, [&](CudaDevice&) { return runtime::allocate_host(std::max<size_t>(bytes, 1), out); });
  if (s.ok()) std::memset(*out, 0, bytes);
  return s;
}

void release_host(Device* device, void* data, size_t) {
  (void)on(device, [&](CudaDevice&) {
    runtime::release_host(data);
    return Status{};
  });
}

Status enqueue(Device* device, void* dst, const void* src, size_t bytes) {
  return on(device, [&](CudaDevice& d) { return d.enqueue(dst, src, bytes); });
}

Status synchronize(Device* device) {
  return on(device, [&](CudaDevice& d) { return d.synchronize(); });
}

Status pack(Device* device, const PackParams* params) {
  return on(device, [&](CudaDevice& d) { return d.pack(*params); });
}

Status unpack(Device* device, const Matrix* matrix, float* out) {
  return on(device, [&](CudaDevice& d) { return d.unpack(*matrix, out); });
}

bool is_op(OpKind kind) {
  return kind >= OpKind{} && kind < OpKind::count;
}

// Calls f(Op<kind>{}, params as the struct of that kind).
template <class F>
decltype(auto) visit_params(OpKind kind, const void* params, F&& f) {
  return visit_op(kind, [&](auto op) { return f(op, *static_cast<const typename decltype(op)::Params*>(params)); });
}

struct ScratchBytes {
  const DeviceLimits& limits;
  const CublasLt* lt;

  size_t operator()(Op<OpKind::linear>, const LinearParams& p) const {
    const size_t own = linear_scratch(p, limits);
    return lt != nullptr && CublasLt::takes(p) ? std::max(own, CublasLt::kWorkspaceBytes) : own;
  }
  size_t operator()(Op<OpKind::qkv_rope_cache>, const QkvRopeCacheParams& p) const {
    return qkv_rope_cache_scratch(p, limits);
  }
  size_t operator()(Op<OpKind::q_rope>, const QRopeParams& p) const { return q_rope_scratch(p, limits); }
  size_t operator()(Op<OpKind::swiftkv_project>, const SwiftkvProjectParams& p) const {
    return swiftkv_project_scratch(p, limits);
  }
  template <OpKind K>
  size_t operator()(Op<K>, const AttentionParams& p) const {
    return attention_scratch(p, limits);
  }
  size_t operator()(Op<OpKind::logprobs>, const LogprobsParams& p) const { return logprobs_scratch(p, limits); }
  size_t operator()(Op<OpKind::sample>, const SampleParams& p) const { return sample_scratch(p, limits); }
  template <OpKind K, class Params>
  size_t operator()(Op<K>, const Params&) const {
    return 0;
  }
};

size_t scratch_bytes(Device* device, OpKind kind, const void* params) {
  if (!is_op(kind)) return 0;
  return visit_params(kind, params, ScratchBytes{cuda_device(device).limits(), cuda_device(device).lt()});
}

struct Run {
  const Context& c;
  CublasLt* lt;

  Status operator()(Op<OpKind::embed>, const EmbedParams& p) const { return embed(p, c); }
  Status operator()(Op<OpKind::rms_norm>, const RmsNormParams& p) const { return rms_norm(p, c); }
  Status operator()(Op<OpKind::linear>, const LinearParams& p) const {
    if (lt != nullptr && p.rows > 0 && CublasLt::takes(p)) {
      bool done = false;
      const Status s = lt->linear(p, c, &done);
      if (done || !s.ok()) return s;
    }
    return linear(p, c);
  }
  Status operator()(Op<OpKind::qkv_rope_cache>, const QkvRopeCacheParams& p) const { return qkv_rope_cache(p, c); }
  Status operator()(Op<OpKind::q_rope>, const QRopeParams& p) const { return q_rope(p, c); }
  Status operator()(Op<OpKind::swiftkv_project>, const SwiftkvProjectParams& p) const { return swiftkv_project(p, c); }
  Status operator()(Op<OpKind::attention>, const AttentionParams& p) const { return attention(p, c); }
  Status operator()(Op<OpKind::attention_decode>, const AttentionParams& p) const { return attention_decode(p, c); }
  Status operator()(Op<OpKind::attention_prefill>, const AttentionParams& p) const { return attention_prefill(p, c); }
  Status operator()(Op<OpKind::silu_mul>, const SiluMulParams& p) const { return silu_mul(p, c); }
  Status operator()(Op<OpKind::gather_rows>, const GatherRowsParams& p) const { return gather_rows(p, c); }
  Status operator()(Op<OpKind::logprobs>, const LogprobsParams& p) const { return logprobs(p, c); }
  Status operator()(Op<OpKind::sample>, const SampleParams& p) const { return sample(p, c); }
  Status operator()(Op<OpKind::kv_quantize>, const KvQuantizeParams& p) const { return kv_quantize(p, c); }
  Status operator()(Op<OpKind::kv_dequantize>, const KvDequantizeParams& p) const { return kv_dequantize(p, c); }
  Status operator()(Op<OpKind::copy_blocks>, const CopyBlocksParams& p) const { return copy_blocks(p, c); }
  Status operator()(Op<OpKind::quantize_rows>, const QuantizeRowsParams& p) const { return quantize_rows(p, c); }
  Status operator()(Op<OpKind::rope_table>, const RopeTableParams& p) const { return rope_table(p, c); }
  Status operator()(Op<OpKind::copy_rows>, const CopyRowsParams& p) const { return copy_rows(p, c); }
  template <OpKind K, class Params>
  Status operator()(Op<K>, const Params&) const {
    return fail(Code::unsupported, "ops of training run on the cpu: open a device of the cpu backend");
  }
};

Status run(Device* device, OpKind kind, const void* params, const OpContext* context) {
  if (!is_op(kind))
    return fail(Code::unsupported, "The %s backend has no op with the number %d", runtime::name(),
                static_cast<int>(kind));
  return on(device, [&](CudaDevice& d) {
    Status s = d.settle();
    if (!s.ok()) return s;
    const Context c{d.ops(), context->scratch, context->scratch_bytes, d.limits(), d.batch_invariant()};
    s = visit_params(kind, params, Run{c, d.lt()});
    return s.ok() ? d.throttle() : s;
  });
}

}  // namespace

const BackendTable* backend_table() {
  static const BackendTable table{
      .abi = kBackendAbi,
      .name = runtime::name(),
      .host_memory = false,
      .open = open_device,
      .close = close_device,
      .describe = describe,
      .allocate = allocate,
      .touch = touch,
      .release = release,
      .upload = upload,
      .download = download,
      .allocate_host = allocate_host,
      .release_host = release_host,
      .enqueue_upload = enqueue,
      .enqueue_download = enqueue,
      .synchronize = synchronize,
      .matrix_bytes = matrix_bytes,
      .pack = pack,
      .unpack = unpack,
      .scratch_bytes = scratch_bytes,
      .run = run,
      .measure_peak = nullptr,
  };
  return &table;
}

}  // namespace swiftkv::cuda
