// The cpu backend's table: memory is the process's own, ops go to the kernels of the level chosen at open.
#include <algorithm>
#include <cstring>
#include <new>
#include <type_traits>

#include "backends/cpu/attention_select.h"
#include "backends/cpu/kernels.h"
#include "backends/cpu/level.h"
#include "backends/cpu/memory.h"
#include "backends/cpu/pack.h"
#include "backends/cpu/peak.h"
#include "backends/cpu/train_kernels.h"
#include "core/backend.h"
#include "core/op_visit.h"

namespace swiftkv {

namespace {

using cpu::Context;
using cpu::Kernels;

struct CpuDevice {
  ThreadPool* pool;
  int threads;
  const Kernels* kernels;
};

const CpuDevice& cpu_device(const Device* device) {
  return *reinterpret_cast<const CpuDevice*>(device);
}

Status open_device(const DeviceOptions* options, Device** out) {
  *out = nullptr;
  if (options->pool == nullptr || options->threads < 1)
    return fail(Code::invalid_argument,
                "Expected a thread pool and at least 1 thread for the cpu device but received %d", options->threads);
  const auto level = static_cast<cpu::CpuLevel>(options->level);
  const Kernels* kernels = cpu::kernels_of(level);
  if (kernels == nullptr || !cpu::can_run(level, cpu::detect()))
    return fail(Code::unsupported, "ISA level %d (%s) is not built or not supported by this processor", options->level,
                cpu::level_name(level));
  auto* device = new (std::nothrow) CpuDevice{options->pool, options->threads, kernels};
  if (device == nullptr) return fail(Code::out_of_memory, "Could not allocate the cpu device");
  *out = reinterpret_cast<Device*>(device);
  return {};
}

void close_device(Device* device) {
  delete reinterpret_cast<CpuDevice*>(device);
}

Status allocate(Device*, size_t bytes, void** out) {
  return cpu::allocate(bytes, out);
}

void touch(Device*, void* data, size_t bytes) {
  cpu::touch(data, bytes);
}

void release(Device*, void* data, size_t bytes) {
  cpu::release(data, bytes);
}

Status copy(Device*, void* dst, const void* src, size_t bytes) {
  if (bytes > 0) std::memcpy(dst, src, bytes);
  return {};
}

Status pack(Device*, const PackParams* params) {
  return cpu::pack(*params);
}

Status unpack(Device*, const Matrix* matrix, float* out) {
  return cpu::unpack(*matrix, out);
}

bool is_op(OpKind kind) {
  return kind >= OpKind{} && kind < OpKind::count;
}

// Calls f(Op<kind>{}, params as the struct of that kind).
template <class F>
decltype(auto) visit_params(OpKind kind, const void* params, F&& f) {
  return visit_op(kind, [&](auto op) { return f(op, *static_cast<const typename decltype(op)::Params*>(params)); });
}

// ---- training: its ops are found in their own table ----

struct TrainKernelOf {
  const cpu::TrainKernels& k;

  const cpu::TrainKernel<CastRowsParams>& operator()(Op<OpKind::cast_rows>) const { return k.cast_rows; }
  const cpu::TrainKernel<RmsNormBackwardParams>& operator()(Op<OpKind::rms_norm_backward>) const {
    return k.rms_norm_backward;
  }
  const cpu::TrainKernel<LinearBackwardParams>& operator()(Op<OpKind::linear_backward>) const {
    return k.linear_backward;
  }
  const cpu::TrainKernel<AttentionBackwardParams>& operator()(Op<OpKind::attention_backward>) const {
    return k.attention_backward;
  }
  const cpu::TrainKernel<RopeBackwardParams>& operator()(Op<OpKind::rope_backward>) const { return k.rope_backward; }
  const cpu::TrainKernel<SiluMulBackwardParams>& operator()(Op<OpKind::silu_mul_backward>) const {
    return k.silu_mul_backward;
  }
  const cpu::TrainKernel<DistillHeadParams>& operator()(Op<OpKind::distill_head>) const { return k.distill_head; }
  const cpu::TrainKernel<CrossEntropyHeadParams>& operator()(Op<OpKind::cross_entropy_head>) const {
    return k.cross_entropy_head;
  }
  const cpu::TrainKernel<MseParams>& operator()(Op<OpKind::mse>) const { return k.mse; }
  const cpu::TrainKernel<EmbedBackwardParams>& operator()(Op<OpKind::embed_backward>) const { return k.embed_backward; }
  const cpu::TrainKernel<SumSquaresParams>& operator()(Op<OpKind::sum_squares>) const { return k.sum_squares; }
  const cpu::TrainKernel<AdamwParams>& operator()(Op<OpKind::adamw>) const { return k.adamw; }
  const cpu::TrainKernel<PackWeightParams>& operator()(Op<OpKind::pack_weight>) const { return k.pack_weight; }
};

template <class AnyOp>
concept TrainOp = std::is_invocable_v<TrainKernelOf, AnyOp>;

// ---- scratch: what a level's kernel asks for, nothing for ops without a scratch function ----

struct ScratchBytes {
  const Kernels& k;
  int threads;

  size_t operator()(Op<OpKind::linear>, const LinearParams& p) const { return ask(k.linear_scratch, p); }
  size_t operator()(Op<OpKind::qkv_rope_cache>, const QkvRopeCacheParams& p) const {
    return ask(k.qkv_rope_cache_scratch, p);
  }
  size_t operator()(Op<OpKind::q_rope>, const QRopeParams& p) const { return ask(k.q_rope_scratch, p); }
  size_t operator()(Op<OpKind::swiftkv_project>, const SwiftkvProjectParams& p) const {
    return ask(k.swiftkv_project_scratch, p);
  }
  size_t operator()(Op<OpKind::attention>, const AttentionParams& p) const {
    return std::max(ask(k.attention_decode_scratch, p), ask(k.attention_prefill_scratch, p));
  }
  size_t operator()(Op<OpKind::attention_decode>, const AttentionParams& p) const {
    return ask(k.attention_decode_scratch, p);
  }
  size_t operator()(Op<OpKind::attention_prefill>, const AttentionParams& p) const {
    return ask(k.attention_prefill_scratch, p);
  }
  size_t operator()(Op<OpKind::sample>, const SampleParams& p) const { return ask(k.sample_scratch, p); }
  size_t operator()(Op<OpKind::logprobs>, const LogprobsParams& p) const { return ask(k.logprobs_scratch, p); }
  template <TrainOp AnyOp, class Params>
  size_t operator()(AnyOp op, const Params& p) const {
    return ask(TrainKernelOf{k.train()}(op).scratch, p);
  }
  template <class AnyOp, class Params>
  size_t operator()(AnyOp, const Params&) const {
    return 0;
  }

 private:
  template <class Params>
  size_t ask(size_t (*scratch)(const Params&, int), const Params& p) const {
    return scratch == nullptr ? 0 : scratch(p, threads);
  }
};

size_t scratch_bytes(Device* device, OpKind kind, const void* params) {
  if (!is_op(kind)) return 0;
  const CpuDevice& d = cpu_device(device);
  return visit_params(kind, params, ScratchBytes{*d.kernels, d.threads});
}

// ---- run ----

Status attention(const Kernels& k, const AttentionParams& params, const Context& c) {
  const cpu::SequenceCounts counts = cpu::count_sequences(params.half);
  AttentionParams half = params;
  if (counts.one_row > 0) {
    half.select = QuerySelect::one_row;
    const Status s = k.attention_decode(half, c);
    if (!s.ok()) return s;
  }
  if (counts.many_rows > 0) {
    half.select = QuerySelect::many_rows;
    return k.attention_prefill(half, c);
  }
  return {};
}

struct Run {
  const Kernels& k;
  const Context& c;

  Status operator()(Op<OpKind::embed>, const EmbedParams& p) const { return k.embed(p, c); }
  Status operator()(Op<OpKind::rms_norm>, const RmsNormParams& p) const { return k.rms_norm(p, c); }
  Status operator()(Op<OpKind::linear>, const LinearParams& p) const { return k.linear(p, c); }
  Status operator()(Op<OpKind::qkv_rope_cache>, const QkvRopeCacheParams& p) const { return k.qkv_rope_cache(p, c); }
  Status operator()(Op<OpKind::q_rope>, const QRopeParams& p) const { return k.q_rope(p, c); }
  Status operator()(Op<OpKind::swiftkv_project>, const SwiftkvProjectParams& p) const {
    return k.swiftkv_project(p, c);
  }
  Status operator()(Op<OpKind::attention>, const AttentionParams& p) const { return attention(k, p, c); }
  Status operator()(Op<OpKind::attention_decode>, const AttentionParams& p) const { return k.attention_decode(p, c); }
  Status operator()(Op<OpKind::attention_prefill>, const AttentionParams& p) const { return k.attention_prefill(p, c); }
  Status operator()(Op<OpKind::silu_mul>, const SiluMulParams& p) const { return k.silu_mul(p, c); }
  Status operator()(Op<OpKind::gather_rows>, const GatherRowsParams& p) const { return k.gather_rows(p, c); }
  Status operator()(Op<OpKind::logprobs>, const LogprobsParams& p) const { return k.logprobs(p, c); }
  Status operator()(Op<OpKind::sample>, const SampleParams& p) const { return k.sample(p, c); }
  Status operator()(Op<OpKind::kv_quantize>, const KvQuantizeParams& p) const { return k.kv_quantize(p, c); }
  Status operator()(Op<OpKind::kv_dequantize>, const KvDequantizeParams& p) const { return k.kv_dequantize(p, c); }
  Status operator()(Op<OpKind::copy_blocks>, const CopyBlocksParams& p) const { return k.copy_blocks(p, c); }
  Status operator()(Op<OpKind::quantize_rows>, const QuantizeRowsParams& p) const { return k.quantize_rows(p, c); }
  Status operator()(Op<OpKind::rope_table>, const RopeTableParams& p) const { return k.rope_table(p, c); }
  Status operator()(Op<OpKind::copy_rows>, const CopyRowsParams& p) const { return k.copy_rows(p, c); }
  template <TrainOp AnyOp, class Params>
  Status operator()(AnyOp op, const Params& p) const {
    return TrainKernelOf{k.train()}(op).run(p, c);
  }
};

Status run(Device* device, OpKind kind, const void* params, const OpContext* context) {
  if (!is_op(kind))
    return fail(Code::unsupported, "The cpu backend has no op with the number %d", static_cast<int>(kind));
  const CpuDevice& d = cpu_device(device);
  const Context c{d.pool, d.threads, context->scratch, context->scratch_bytes};
  return visit_params(kind, params, Run{*d.kernels, c});
}

Status measure_peak(Device* device, const PeakParams* params, double* per_second) {
  const CpuDevice& d = cpu_device(device);
  return cpu::measure_peak(*d.kernels->peak, *params, *d.pool, d.threads, per_second);
}

}  // namespace

const BackendTable* cpu_backend() {
  static constexpr BackendTable table{
      .abi = kBackendAbi,
      .name = "cpu",
      .host_memory = true,
      .open = open_device,
      .close = close_device,
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
      .matrix_bytes = cpu::matrix_bytes,
      .pack = pack,
      .unpack = unpack,
      .scratch_bytes = scratch_bytes,
      .run = run,
      .measure_peak = measure_peak,
  };
  return &table;
}

}  // namespace swiftkv
