#include "backends/cuda/cuda_device.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "backends/cuda/pack.h"

namespace swiftkv::cuda {

namespace {

double gib(uint64_t bytes) {
  return static_cast<double>(bytes) / (1024.0 * 1024.0 * 1024.0);
}

}  // namespace

Status CudaDevice::open(const DeviceOptions& options, std::unique_ptr<CudaDevice>* out) {
  int32_t count = 0;
  if (const Status s = runtime::count_devices(&count); !s.ok()) return s;
  if (options.level < 0 || options.level >= count)
    return fail(Code::unsupported, "no CUDA device %d: this process sees %d, numbered from 0", options.level, count);
  std::unique_ptr<CudaDevice> device(new (std::nothrow) CudaDevice());
  if (device == nullptr) return fail(Code::out_of_memory, "Could not allocate the %s device", runtime::name());
  if (const Status s = device->create(options); !s.ok()) return s;
  *out = std::move(device);
  return {};
}

Status CudaDevice::create(const DeviceOptions& options) {
  index_ = options.level;
  batch_invariant_ = options.batch_invariant;
  limit_ = options.memory_limit;
  Status s = runtime::describe(index_, &properties_);
  if (!s.ok()) return s;
  constexpr int32_t kLeastArch = 80;
  if (limits().arch < kLeastArch)
    return fail(Code::unsupported, "no CUDA device that can be used: %s is %s, expected sm_80 (Ampere) or newer",
                properties_.name, properties_.arch);
  if (s = use(); !s.ok()) return s;
  if (s = runtime::create_stream(&ops_); !s.ok()) return s;
  if (s = runtime::create_stream(&copies_); !s.ok()) return s;
  for (runtime::Event& event : passed_) {
    if (s = runtime::create_event(&event); !s.ok()) return s;
  }
  if (s = runtime::create_event(&over_); !s.ok()) return s;
  staging_.reset(new (std::nothrow) Staging());
  if (staging_ == nullptr) return fail(Code::out_of_memory, "Could not allocate the %s device", runtime::name());
  choose_linear();
  return {};
}

void CudaDevice::choose_linear() {
  if (batch_invariant_) {
    linear_reason_ = "batchInvariant is on";
  } else if (properties_.driver_version == 0) {
    linear_reason_ = "this device is executed on the host";
  } else {
    lt_ = CublasLt::open(&linear_reason_);
  }
}

CudaDevice::~CudaDevice() {
  if (!use().ok()) return;  // at exit, the runtime may have gone before us
  if (copies_ != nullptr) (void)runtime::wait(copies_);
  if (ops_ != nullptr) (void)runtime::wait(ops_);
  staging_.reset();
  lt_.reset();
  for (runtime::Event event : passed_) {
    if (event != nullptr) runtime::destroy_event(event);
  }
  if (over_ != nullptr) runtime::destroy_event(over_);
  if (copies_ != nullptr) runtime::destroy_stream(copies_);
  if (ops_ != nullptr) runtime::destroy_stream(ops_);
}

Status CudaDevice::describe(DeviceInfo* out) const {
  *out = {};
  uint64_t free = 0, total = 0;
  if (const Status s = runtime::memory(&free, &total); !s.ok()) return s;
  if (limit_ > 0) free = std::min(free, limit_ - std::min(limit_, used_.load()));
  std::memcpy(out->name, properties_.name, sizeof out->name);
  std::memcpy(out->arch, properties_.arch, sizeof out->arch);
  out->total_bytes = total;
  out->free_bytes = free;
  out->num_sms = limits().num_sms;
  out->shared_bytes_sm = limits().shared_bytes_sm;
  out->shared_bytes = limits().shared_bytes_block;
  out->driver_version = properties_.driver_version;
  out->runtime_version = properties_.runtime_version;
  std::snprintf(out->linear, sizeof out->linear, "%s", lt_ == nullptr ? "swiftkv" : "cublasLt");
  std::snprintf(out->linear_reason, sizeof out->linear_reason, "%s", linear_reason_.c_str());
  return {};
}

Status CudaDevice::out_of_memory(size_t bytes) const {
  uint64_t free = 0, total = 0;
  if (!runtime::memory(&free, &total).ok()) free = total = 0;
  const uint64_t used = used_.load();
  char limit[64] = "";
  if (limit_ > 0) std::snprintf(limit, sizeof limit, ", memoryLimit is %.3f GiB", gib(limit_));
  return fail(Code::out_of_memory,
              "Could not allocate %.3f GiB beside the %.3f GiB held on %s:%d: %.3f of %.3f GiB free%s; use a smaller "
              "kvCacheBytes, maxBatchTokens or model, or fewer bits",
              gib(bytes), gib(used), runtime::name(), index_, gib(free), gib(total), limit);
}

Status CudaDevice::allocate(size_t bytes, void** out) {
  *out = nullptr;
  const uint64_t used = used_.load();
  if (bytes > SIZE_MAX / 4 || (limit_ > 0 && used + bytes > limit_)) return out_of_memory(bytes);
  // Two threads may pass the limit at once; that is found here.
  if (used_.fetch_add(bytes) + bytes > limit_ && limit_ > 0) {
    used_.fetch_sub(bytes);
    return out_of_memory(bytes);
  }
  Status s = runtime::allocate(std::max<size_t>(bytes, 1), out);
  if (s.ok()) {
    s = runtime::clear(*out, bytes, copies_);
    copies_pending_ = true;
    if (s.ok()) return s;
    runtime::release(*out);
    *out = nullptr;
  }
  used_.fetch_sub(bytes);
  return s.code == Code::out_of_memory ? out_of_memory(bytes) : s;
}

void CudaDevice::release(void* data, size_t bytes) {
  runtime::release(data);
  used_.fetch_sub(bytes);
}

Status CudaDevice::upload(void* dst, const void* src, size_t bytes) {
  if (bytes == 0) return {};
  if (const Status s = runtime::copy(dst, src, bytes, copies_); !s.ok()) return s;
  return runtime::wait(copies_);
}

Status CudaDevice::download(void* dst, const void* src, size_t bytes) {
  return upload(dst, src, bytes);
}

Status CudaDevice::pack(const PackParams& p) {
  if (const Status s = check_pack(p); !s.ok()) return s;
  const RowPlaces places(p.dst);
  const size_t values = packs_values(p) ? places.values : 0, scales = packs_scales(p) ? places.scales : 0;
  if (p.rows == 0 || values + scales == 0) return {};
  auto* data = static_cast<std::byte*>(const_cast<void*>(p.dst.data));
  const auto step = static_cast<int64_t>(std::max<size_t>(1, Staging::kPieceBytes / (values + scales)));
  for (int64_t first = 0; first < p.rows; first += step) {
    const auto count = static_cast<size_t>(std::min(step, p.rows - first));
    const auto row = static_cast<size_t>(p.dst_row + first);
    Staging::Piece* piece = nullptr;
    if (const Status s = staging_->take(count * (values + scales), &piece); !s.ok()) return s;
    std::byte* const staged_scales = piece->data + count * values;
    pack_rows(p, first, static_cast<int64_t>(count), piece->data, staged_scales);
    Status s;
    if (values > 0) s = runtime::copy(data + row * values, piece->data, count * values, copies_);
    if (s.ok() && scales > 0) {
      s = runtime::copy(data + places.scales_offset + row * scales, staged_scales, count * scales, copies_);
    }
    copies_pending_ = true;
    const Status given = staging_->give_back(piece, copies_);
    if (!s.ok()) return s;
    if (!given.ok()) return given;
  }
  return {};
}

Status CudaDevice::unpack(const Matrix& matrix, float* out) {
  const size_t bytes = matrix_bytes(matrix.dtype, matrix.layout, matrix.n, matrix.k);
  const std::unique_ptr<std::byte[]> image(new (std::nothrow) std::byte[bytes]);
  if (image == nullptr)
    return fail(Code::out_of_memory, "Could not allocate %zu bytes of host memory to read a matrix back", bytes);
  if (const Status s = download(image.get(), matrix.data, bytes); !s.ok()) return s;
  Matrix host = matrix;
  host.data = image.get();
  return unpack_host(host, out);
}

Status CudaDevice::settle() {
  return copies_pending_.exchange(false) ? runtime::wait(copies_) : Status{};
}

Status CudaDevice::throttle() {
  runtime::Event event = passed_[queued_++ % kOpsUnderWay];
  if (const Status s = runtime::wait(event); !s.ok()) return s;
  return runtime::record(event, ops_);
}

Status CudaDevice::enqueue(void* dst, const void* src, size_t bytes) {
  if (const Status s = settle(); !s.ok()) return s;
  return runtime::copy(dst, src, bytes, ops_);
}

Status CudaDevice::synchronize() {
  if (const Status s = runtime::record(over_, ops_); !s.ok()) return s;
  return runtime::wait(over_);
}

}  // namespace swiftkv::cuda
