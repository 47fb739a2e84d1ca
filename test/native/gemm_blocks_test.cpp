// Where a product is cut into blocks: long k in passes, many rows in pieces, heads wider than panels. A seam must show
// in no bit.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "compare.h"
#include "fixtures.h"
#include "level_device.h"

namespace swiftkv::test {
namespace {

// Steps of a pass are 64 and 1024; a step is one k in f32 and two in bf16.
const int64_t kSeams[] = {63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2047, 2048, 2049, 2050, 4097};

TEST_CASE("linear: the seams between passes over k lose and repeat nothing") {
  // Every a and w is 1, so that a sum is exactly its number of terms.
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level, 2);
    for (DType dtype : {DType::f32, DType::bf16})
      for (int64_t k : kSeams)
        for (int64_t rows : {1, 6, 7, 48, 49, 200}) {
          INFO("k ", k, " rows ", rows, " ", text(dtype_name(dtype)));
          const int64_t n = 65;
          const Tensor a(dtype, std::vector<float>(static_cast<size_t>(rows * k), 1.0f));
          const Weights w(dtype, Layout::panels, n, k, std::vector<float>(static_cast<size_t>(n * k), 1.0f));
          const Tensor y(DType::f32, rows * n);
          const LinearParams p{rows, a.activation(), w.matrix, nullptr, false, y.activation()};
          CHECK(device.run(OpKind::linear, &p).ok());
          CHECK(difference(y.floats(), std::vector<float>(static_cast<size_t>(rows * n), static_cast<float>(k)), 0.0,
                           0.0) == "");
        }
  });
}

TEST_CASE("linear: a row alone and the same row among hundreds take k in the same order") {
  for_each_level([](cpu::CpuLevel level) {
    for (DType dtype : {DType::f32, DType::bf16})
      for (int64_t k : {1025, 2309}) {
        INFO("k ", k, " ", text(dtype_name(dtype)));
        Rng rng(1);
        const int64_t rows = 203, n = 70;
        const Tensor a(dtype, random_values(rng, rows * k));
        const Weights w(dtype, Layout::panels, n, k, random_values(rng, n * k));
        const Tensor all(DType::f32, rows * n), some(DType::f32, rows * n);
        const LinearParams whole{rows, a.activation(), w.matrix, nullptr, false, all.activation()};
        CHECK(LevelDevice(level, 2).run(OpKind::linear, &whole).ok());
        for (int64_t chunk : {1, 6, 13, 48, 193}) {
          const LevelDevice device(level);
          for (int64_t row = 0; row < rows; row += chunk) {
            const int64_t count = std::min(chunk, rows - row);
            const LinearParams part{count, a.activation_at(row * k),   w.matrix, nullptr,
                                    false, some.activation_at(row * n)};
            CHECK(device.run(OpKind::linear, &part).ok());
          }
          CHECK(bit_difference(some.floats(), all.floats()) == "");
        }
      }
  });
}

TEST_CASE("linear: what lies beyond an odd bf16 row does not reach its last product") {
  // The next row's first element is NaN; an odd row's last pair must not take it in.
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (int64_t k : {1, 3, 129}) {
      std::vector<float> values(static_cast<size_t>(3 * k), 1.0f);
      values[static_cast<size_t>(k)] = NAN;
      const Tensor a(DType::bf16, values);
      const Weights w(DType::bf16, Layout::panels, 2, k, std::vector<float>(static_cast<size_t>(2 * k), 1.0f));
      const Tensor y(DType::f32, 6);
      const LinearParams p{3, a.activation(), w.matrix, nullptr, false, y.activation()};
      CHECK(device.run(OpKind::linear, &p).ok());
      const std::vector<float> got = y.floats();
      for (size_t i : {0, 1, 4, 5}) CHECK(got[i] == static_cast<float>(k));
      CHECK(std::isnan(got[2]));
    }
  });
}

// Codes of every value at and beside each rounding boundary of e4m3, and of what has no code of its own.
std::vector<float> boundary_values() {
  std::vector<float> values{0.0f,   -0.0f,  0x1p-149f, -0x1p-149f, 0x1p-126f, 448.0f, 449.0f,
                            463.9f, 464.0f, 480.0f,    1e30f,      INFINITY,  NAN};
  for (int code = 0; code < 0x7f; ++code) {
    const float low = to_f32(fp8_e4m3{static_cast<uint8_t>(code)});
    const float high = code == 0x7e ? 480.0f : to_f32(fp8_e4m3{static_cast<uint8_t>(code + 1)});
    const float middle = 0.5f * (low + high);
    for (float x : {low, middle}) {
      values.push_back(x);
      values.push_back(std::nextafter(x, 1e30f));
      values.push_back(std::nextafter(x, -1e30f));
    }
  }
  const size_t count = values.size();
  for (size_t i = 0; i < count; ++i) values.push_back(-values[i]);
  return values;
}

TEST_CASE("kv_quantize: fp8 codes are those of dtype.h at every rounding boundary") {
  for_each_level([](cpu::CpuLevel level) {
    std::vector<float> values = boundary_values();
    const int32_t hd = 64;
    const int64_t rows = (static_cast<int64_t>(values.size()) + hd - 1) / hd;
    values.resize(static_cast<size_t>(rows * hd), 0.3f);
    std::vector<int32_t> slots;
    for (int64_t i = 0; i < rows; ++i) slots.push_back(static_cast<int32_t>(i));
    Cache cache({DType::fp8_e4m3, KvScales::per_head, 1, hd}, static_cast<int32_t>(rows / kBlockTokens + 1));
    cache.k_scale[0] = cache.v_scale[0] = 1.0f;
    const KvQuantizeParams p{rows, values.data(), values.data(), slots.data(), cache.view()};
    CHECK(LevelDevice(level).run(OpKind::kv_quantize, &p).ok());
    for (int64_t i = 0; i < rows * hd; ++i) {
      const int64_t slot = i / hd;
      const std::byte* block = cache.memory.data() + slot / kBlockTokens * cache.view().block_bytes;
      const auto got = static_cast<uint8_t>(block[slot % kBlockTokens * hd + i % hd]);
      INFO("value ", values[static_cast<size_t>(i)]);
      REQUIRE(int{got} == int{to_fp8_e4m3(values[static_cast<size_t>(i)]).bits});
    }
  });
}

}  // namespace
}  // namespace swiftkv::test
