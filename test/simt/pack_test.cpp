// Weights in the layout of the cuda backend: the same values as the cpu backend's, in whatever pieces and dtypes they
// come, and through the table's staging as on the host.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/pack.h"
#include "backends/cuda/backend_table.h"
#include "backends/cuda/pack.h"
#include "backends/cuda/staging.h"
#include "compare.h"
#include "core/thread_pool.h"
#include "fixtures.h"

namespace swiftkv::test {
namespace {

constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16};
constexpr DType kMatrices[] = {DType::f32, DType::bf16, DType::fp8_e4m3, DType::int8, DType::int4};
constexpr std::pair<int64_t, int64_t> kSizes[] = {{1, 1},  {3, 31}, {64, 32}, {65, 33},  {130, 17},
                                                  {2, 63}, {5, 64}, {4, 65},  {3, 1055}, {2, 2050}};

std::vector<float> rows_of_many_scales(int64_t n, int64_t k) {
  Rng rng(11);
  std::vector<float> values = random_values(rng, n * k);
  for (int64_t i = 0; i < n * k; ++i)
    values[static_cast<size_t>(i)] *= std::ldexp(1.0f, static_cast<int>(i / k % 9 - 4 + i % k / 32 % 3));
  return values;
}

std::vector<std::byte> as_source(DType dtype, const std::vector<float>& values) {
  std::vector<std::byte> bytes(values.size() * static_cast<size_t>(dtype_bytes(dtype)));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto put = [&](auto x) { std::memcpy(bytes.data() + i * sizeof x, &x, sizeof x); };
    switch (dtype) {
      case DType::bf16: put(to_bf16(values[i])); break;
      case DType::f16: put(to_f16(values[i])); break;
      case DType::fp8_e4m3: put(to_fp8_e4m3(values[i])); break;
      default: put(values[i]);
    }
  }
  return bytes;
}

// An opened device of the table, as a program has it.
class Opened {
 public:
  explicit Opened(uint64_t limit = 0) : pool_(2), table_(*cuda::backend_table()) {
    const DeviceOptions options{&pool_, 2, 0, true, limit};
    REQUIRE(table_.open(&options, &device_).ok());
  }
  ~Opened() { table_.close(device_); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  const BackendTable& table() const { return table_; }
  Device* device() const { return device_; }

 private:
  ThreadPool pool_;
  const BackendTable& table_;
  Device* device_ = nullptr;
};

// What comes back of values that were packed, through the table of the device.
std::vector<float> through_device(const Opened& d, DType dtype, Layout layout, int64_t n, int64_t k, DType src_dtype,
                                  const std::vector<std::byte>& src, int64_t step) {
  const size_t bytes = d.table().matrix_bytes(dtype, layout, n, k);
  void* data = nullptr;
  REQUIRE(d.table().allocate(d.device(), bytes, &data).ok());
  const Matrix matrix{data, dtype, layout, n, k};
  const int64_t row_bytes = k * dtype_bytes(src_dtype);
  for (int64_t row = 0; row < n; row += step) {
    const PackParams params{src.data() + row * row_bytes, src_dtype, std::min(step, n - row), row, matrix};
    CHECK(std::string(d.table().pack(d.device(), &params).message).empty());
  }
  std::vector<float> out(static_cast<size_t>(n * k));
  CHECK(d.table().unpack(d.device(), &matrix, out.data()).ok());
  d.table().release(d.device(), data, bytes);
  return out;
}

std::vector<float> through_cpu(DType dtype, Layout layout, int64_t n, int64_t k, DType src_dtype,
                               const std::vector<std::byte>& src) {
  std::vector<std::byte> memory(cpu::matrix_bytes(dtype, layout, n, k) + 64);
  auto* data = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
  const Matrix matrix{data, dtype, layout, n, k};
  const PackParams params{src.data(), src_dtype, n, 0, matrix};
  REQUIRE(cpu::pack(params).ok());
  std::vector<float> out(static_cast<size_t>(n * k));
  REQUIRE(cpu::unpack(matrix, out.data()).ok());
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_CASE("a matrix comes back from the device as from the cpu, bit for bit") {
  const Opened d;
  for (DType dtype : kMatrices)
    for (DType src_dtype : kFloats)
      for (const auto& [n, k] : kSizes) {
        INFO(std::string(dtype_name(dtype)), " from ", std::string(dtype_name(src_dtype)), " n ", n, " k ", k);
        const std::vector<std::byte> src = as_source(src_dtype, rows_of_many_scales(n, k));
        const std::vector<float> expected = through_cpu(dtype, Layout::panels, n, k, src_dtype, src);
        for (int64_t step : {n, int64_t{1}, int64_t{7}})
          CHECK(same_bits(through_device(d, dtype, Layout::panels, n, k, src_dtype, src, step), expected));
      }
}

TEST_CASE("f16 matrices and row-major ones are converted too") {
  const Opened d;
  for (const auto& [n, k] : kSizes) {
    const std::vector<float> values = rows_of_many_scales(n, k);
    const std::vector<std::byte> src = as_source(DType::f32, values);
    std::vector<float> rounded = values;
    for (float& x : rounded) x = to_f32(to_f16(x));
    for (Layout layout : {Layout::panels, Layout::row_major})
      CHECK(same_bits(through_device(d, DType::f16, layout, n, k, DType::f32, src, n), rounded));
    CHECK(same_bits(through_device(d, DType::bf16, Layout::row_major, n, k, DType::f32, src, 3),
                    through_cpu(DType::bf16, Layout::row_major, n, k, DType::f32, src)));
  }
}

TEST_CASE("rows with infinity or NaN have the scale NaN, and rows of nothing come back as nothing") {
  const Opened d;
  const int64_t n = 4, k = 70;
  std::vector<float> values(static_cast<size_t>(n * k), 0.0f);
  values[3] = INFINITY;
  values[static_cast<size_t>(k + 40)] = NAN;
  values[static_cast<size_t>(2 * k + 1)] = 0x1p-120f;
  const std::vector<std::byte> src = as_source(DType::f32, values);
  for (DType dtype : {DType::fp8_e4m3, DType::int8, DType::int4}) {
    INFO(std::string(dtype_name(dtype)));
    const auto expected = through_cpu(dtype, Layout::panels, n, k, DType::f32, src);
    const auto actual = through_device(d, dtype, Layout::panels, n, k, DType::f32, src, 2);
    for (size_t i = 0; i < expected.size(); ++i)
      CHECK((std::isnan(expected[i]) ? std::isnan(actual[i]) : actual[i] == expected[i]));
  }
}

TEST_CASE("codes of a checkpoint stay as they are, with scales of their own or one for all") {
  const Opened d;
  const int64_t n = 37, k = 50;
  const std::vector<float> values = rows_of_many_scales(n, k);
  const std::vector<std::byte> codes = as_source(DType::fp8_e4m3, values);
  const size_t bytes = d.table().matrix_bytes(DType::fp8_e4m3, Layout::panels, n, k);
  void* data = nullptr;
  REQUIRE(d.table().allocate(d.device(), bytes, &data).ok());
  const Matrix matrix{data, DType::fp8_e4m3, Layout::panels, n, k};
  std::vector<float> scales(static_cast<size_t>(n));
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.5f + static_cast<float>(i);
  const PackParams all[] = {{codes.data(), DType::fp8_e4m3, n, 0, matrix},
                            {scales.data(), DType::f32, n, 0, matrix, PackTarget::scales},
                            {scales.data() + 2, DType::f32, 5, 30, matrix, PackTarget::scales, true}};
  for (const PackParams& p : all) REQUIRE(d.table().pack(d.device(), &p).ok());
  std::vector<float> out(values.size());
  REQUIRE(d.table().unpack(d.device(), &matrix, out.data()).ok());
  for (int64_t row = 0; row < n; ++row)
    for (int64_t i = 0; i < k; ++i) {
      const auto at = static_cast<size_t>(row * k + i);
      const float scale = row >= 30 && row < 35 ? scales[2] : scales[static_cast<size_t>(row)];
      REQUIRE(out[at] == to_f32(fp8_e4m3{static_cast<uint8_t>(codes[at])}) * scale);
    }
  d.table().release(d.device(), data, bytes);
}

TEST_CASE("several threads pack pieces of one matrix, each larger than a piece of the staging") {
  const Opened d;
  const int64_t n = 1200, k = 2048;  // 9.8 MB of f32: several pieces of 2 MiB per thread
  static_assert(1200 * 2048 * 4 > 4 * cuda::Staging::kPieceBytes);
  const std::vector<float> values = rows_of_many_scales(n, k);
  void* data = nullptr;
  const size_t bytes = d.table().matrix_bytes(DType::f32, Layout::panels, n, k);
  REQUIRE(d.table().allocate(d.device(), bytes, &data).ok());
  const Matrix matrix{data, DType::f32, Layout::panels, n, k};
  ThreadPool pool(4);
  pool.parallel_for(4, 4, [&](int64_t piece, int) {
    const int64_t row = piece * (n / 4);
    const PackParams p{values.data() + row * k, DType::f32, n / 4, row, matrix};
    check(d.table().pack(d.device(), &p));
  });
  std::vector<float> out(values.size());
  REQUIRE(d.table().unpack(d.device(), &matrix, out.data()).ok());
  CHECK(same_bits(out, values));
  d.table().release(d.device(), data, bytes);
}

TEST_CASE("what cannot be packed is refused by name") {
  const Opened d;
  float x[64] = {};
  alignas(64) std::byte memory[4096] = {};
  const auto why = [&](DType src, DType dst, Layout layout, int64_t rows, PackTarget target = PackTarget::values) {
    const PackParams p{x, src, rows, 0, Matrix{memory, dst, layout, 2, 8}, target};
    return d.table().pack(d.device(), &p);
  };
  CHECK(why(DType::f32, DType::f32, Layout::panels, 3).code == Code::invalid_argument);
  CHECK(why(DType::f32, DType::i32, Layout::panels, 1).code == Code::unsupported);
  CHECK(why(DType::f32, DType::fp8_e4m3, Layout::row_major, 1).code == Code::unsupported);
  CHECK(why(DType::fp8_e4m3, DType::bf16, Layout::panels, 1).code == Code::unsupported);
  CHECK(why(DType::i32, DType::bf16, Layout::panels, 1).code == Code::unsupported);
  CHECK(why(DType::f32, DType::int8, Layout::panels, 1, PackTarget::scales).code == Code::unsupported);
  CHECK(d.table().matrix_bytes(DType::int8, Layout::row_major, 2, 8) == 0);
  CHECK(d.table().matrix_bytes(DType::i32, Layout::panels, 2, 8) == 0);
}

TEST_CASE("memory beyond the limit is refused with the sum, and comes back with release") {
  const Opened d(1 << 20);
  const BackendTable& table = d.table();
  void *first = nullptr, *second = nullptr;
  REQUIRE(table.allocate(d.device(), 700 << 10, &first).ok());
  const Status s = table.allocate(d.device(), 400 << 10, &second);
  CHECK(s.code == Code::out_of_memory);
  CHECK(second == nullptr);
  CHECK(std::string(s.message).find("simt:0") != std::string::npos);
  DeviceInfo info;
  REQUIRE(table.describe(d.device(), &info).ok());
  CHECK(info.free_bytes == (1 << 20) - (700 << 10));
  table.release(d.device(), first, 700 << 10);
  REQUIRE(table.allocate(d.device(), 1 << 20, &second).ok());
  table.release(d.device(), second, 1 << 20);
  void* none = nullptr;
  CHECK(table.allocate(d.device(), SIZE_MAX / 2, &none).code == Code::out_of_memory);
}

TEST_CASE("device numbers that do not exist are refused") {
  ThreadPool pool(1);
  Device* device = nullptr;
  for (int32_t index : {-1, 4, 1000}) {
    const DeviceOptions options{&pool, 1, index};
    CHECK(cuda::backend_table()->open(&options, &device).code == Code::unsupported);
    CHECK(device == nullptr);
  }
}

}  // namespace
}  // namespace swiftkv::test
