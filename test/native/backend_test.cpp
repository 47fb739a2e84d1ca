// The cpu backend's table: memory that is aligned, zero and really given back; refusals instead of crashes.
#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>

#include "backends/cpu/memory.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

size_t resident_bytes() {
  unsigned long total = 0, resident = 0;
  if (FILE* f = std::fopen("/proc/self/statm", "r"); f != nullptr) {
    if (std::fscanf(f, "%lu %lu", &total, &resident) != 2) resident = 0;
    std::fclose(f);
  }
  return resident * 4096;
}

TEST_CASE("device memory is 64-byte aligned and zero, at every size from nothing to huge pages") {
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{64}, size_t{4096}, (size_t{256} << 10) - 1,
                       size_t{256} << 10, (size_t{1} << 20) + 1, (size_t{4} << 20), (size_t{9} << 20) + 12345}) {
    INFO("bytes ", bytes);
    void* data = nullptr;
    REQUIRE(cpu::allocate(bytes, &data).ok());
    REQUIRE(data != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(data) % 64 == 0);
    size_t nonzero = 0;
    for (size_t i = 0; i < bytes; ++i) nonzero += static_cast<char*>(data)[i] != 0;
    CHECK(nonzero == 0);
    std::memset(data, 1, bytes);
    cpu::release(data, bytes);
  }
}

TEST_CASE("memory is resident once touched, keeps what is in it, and is gone once released") {
  const size_t bytes = size_t{64} << 20, before = resident_bytes();
  void* data = nullptr;
  REQUIRE(cpu::allocate(bytes, &data).ok());
  CHECK(resident_bytes() <= before + bytes / 4);
  auto* bytes_of = static_cast<unsigned char*>(data);
  bytes_of[0] = bytes_of[4096] = bytes_of[bytes - 1] = 0xa5;
  cpu::touch(data, bytes);
  CHECK(resident_bytes() >= before + bytes * 9 / 10);
  CHECK(bytes_of[0] + bytes_of[4096] + bytes_of[bytes - 1] == 3 * 0xa5);
  cpu::release(data, bytes);
  CHECK(resident_bytes() <= before + bytes / 4);  // a sanitizer keeps an eighth, its shadow
}

TEST_CASE("memory that cannot be had is an error, not an abort") {
  for (size_t bytes : {SIZE_MAX, SIZE_MAX / 2, size_t{1} << 60, size_t{1} << 47}) {
    void* data = nullptr;
    CHECK(cpu::allocate(bytes, &data).code == Code::out_of_memory);
    CHECK(data == nullptr);
  }
}

TEST_CASE("open refuses unknown levels and missing threads") {
  ThreadPool pool(1);
  Device* device = nullptr;
  for (int32_t level : {-1, 7, 1000}) {
    const DeviceOptions options{&pool, 1, level};
    CHECK(cpu_backend()->open(&options, &device).code == Code::unsupported);
    CHECK(device == nullptr);
  }
  const DeviceOptions no_threads{&pool, 0, 0}, no_pool{nullptr, 1, 0};
  CHECK(cpu_backend()->open(&no_threads, &device).code == Code::invalid_argument);
  CHECK(cpu_backend()->open(&no_pool, &device).code == Code::invalid_argument);
}

TEST_CASE("an op number that does not exist is refused") {
  const LevelDevice device(cpu::CpuLevel::scalar);
  CHECK(device.run(OpKind::count, nullptr).code == Code::unsupported);
  CHECK(device.run(static_cast<OpKind>(-1), nullptr).code == Code::unsupported);
}

TEST_CASE("a cache of a type that is none is refused by name") {
  const LevelDevice device(cpu::CpuLevel::scalar);
  AttentionParams p{};
  p.q.dtype = DType::f32;
  p.o.dtype = DType::f32;
  p.cache.dtype = DType::i32;
  p.cache.num_kv_heads = 1;
  const Status s = device.run(OpKind::attention_decode, &p);
  CHECK(s.code == Code::unsupported);
  CHECK(std::string(s.message) == "Expected f32, bf16 or fp8_e4m3 for the cache but received i32");
}

}  // namespace
}  // namespace swiftkv::test
