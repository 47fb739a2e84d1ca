// Stands in for the CUDA runtime: device memory is the host's, known piece by piece; kernels and copies are over when
// they have been queued, so streams and events have nothing to wait for.
//
// There are as many devices as shipped targets, `simt:0` to `simt:3`, alike but for what launchers choose by.
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "backends/cuda/runtime.h"

namespace swiftkv::cuda::runtime {

namespace {

constexpr uint64_t kTotalBytes = uint64_t{8} << 30;  // of one device
constexpr size_t kAlignment = 256;

constexpr std::array<DeviceLimits, 4> kDevices = {{
    {.arch = 80, .num_sms = 16, .shared_bytes_block = 163 << 10, .shared_bytes_sm = 164 << 10},
    {.arch = 89, .num_sms = 16, .shared_bytes_block = 99 << 10, .shared_bytes_sm = 100 << 10},
    {.arch = 90, .num_sms = 16, .shared_bytes_block = 227 << 10, .shared_bytes_sm = 228 << 10},
    {.arch = 100, .num_sms = 16, .shared_bytes_block = 227 << 10, .shared_bytes_sm = 228 << 10},
}};

std::array<std::atomic<uint64_t>, kDevices.size()> used;
thread_local int32_t current = 0;

// In front of each piece of device memory.
struct Header {
  size_t bytes;
  int32_t device;
};

void* aligned(size_t bytes) {
  return std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace

const char* name() {
  return "simt";
}

Status count_devices(int32_t* count) {
  *count = static_cast<int32_t>(kDevices.size());
  return {};
}

Status describe(int32_t device, Properties* out) {
  *out = {};
  out->limits = kDevices[static_cast<size_t>(device)];
  std::snprintf(out->name, sizeof out->name, "host execution of the cuda kernels");
  std::snprintf(out->arch, sizeof out->arch, "sm_%d", out->limits.arch);
  return {};
}

Status memory(uint64_t* free, uint64_t* total) {
  const uint64_t taken = used[static_cast<size_t>(current)].load();
  *free = kTotalBytes - (taken < kTotalBytes ? taken : kTotalBytes);
  *total = kTotalBytes;
  return {};
}

Status use(int32_t device) {
  current = device;
  return {};
}

Status allocate(size_t bytes, void** out) {
  *out = nullptr;
  std::atomic<uint64_t>& taken = used[static_cast<size_t>(current)];
  void* piece = nullptr;
  if (taken.fetch_add(bytes) + bytes <= kTotalBytes) piece = aligned(bytes + kAlignment);
  if (piece == nullptr) {
    taken.fetch_sub(bytes);
    return fail(Code::out_of_memory, "%s", "");
  }
  auto* header = static_cast<Header*>(piece);
  *header = {.bytes = bytes, .device = current};
  *out = static_cast<std::byte*>(piece) + kAlignment;
  return {};
}

void release(void* data) {
  if (data == nullptr) return;
  void* piece = static_cast<std::byte*>(data) - kAlignment;
  const auto* header = static_cast<const Header*>(piece);
  used[static_cast<size_t>(header->device)].fetch_sub(header->bytes);
  std::free(piece);
}

Status allocate_host(size_t bytes, void** out) {
  *out = aligned(bytes);
  return *out != nullptr ? Status{} : fail(Code::out_of_memory, "Could not allocate %zu bytes of host memory", bytes);
}

void release_host(void* data) {
  std::free(data);
}

Status create_stream(Stream* out) {
  *out = nullptr;
  return {};
}

void destroy_stream(Stream) {}

Status wait(Stream) {
  return {};
}

Status copy(void* dst, const void* src, size_t bytes, Stream) {
  std::memcpy(dst, src, bytes);
  return {};
}

Status clear(void* data, size_t bytes, Stream) {
  std::memset(data, 0, bytes);
  return {};
}

Status create_event(Event* out) {
  *out = nullptr;
  return {};
}

void destroy_event(Event) {}

Status record(Event, Stream) {
  return {};
}

Status wait(Event) {
  return {};
}

}  // namespace swiftkv::cuda::runtime
