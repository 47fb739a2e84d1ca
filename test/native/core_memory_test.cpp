// Device memory, tensors, KV pools and sampler tables: accounting, exact sizes, and life beyond disposal.
#include <doctest/doctest.h>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/kv_pool.h"
#include "core/sampler_table.h"
#include "core/tensor.h"
#include "core/touch_memory.h"
#include "core_fake_backend.h"

using namespace swiftkv;
using test::fake;
using test::open_fake;

namespace {

CacheSpec cache_spec(int32_t heads, int32_t head_dim, DType dtype, KvScales scales = KvScales::none) {
  CacheSpec spec{heads, head_dim, dtype, scales, {}, {}};
  if (scales == KvScales::per_head) {
    spec.k_scale.assign(static_cast<size_t>(heads), 0.5f);
    spec.v_scale.assign(static_cast<size_t>(heads), 0.25f);
  }
  return spec;
}

Code code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code;
  }
  return Code::ok;
}

}  // namespace

TEST_CASE("device: allocated bytes follow every storage, and all of it goes back") {
  auto device = open_fake();
  {
    const auto a = device->allocate(100);
    const auto b = device->allocate(28);
    const auto empty = device->allocate(0);
    CHECK(empty->data() == nullptr);
    CHECK(device->allocated_bytes() == 128);
    CHECK(fake(*device).allocated == 128);
  }
  CHECK(device->allocated_bytes() == 0);
  CHECK(fake(*device).allocated == 0);
}

TEST_CASE("device: close releases memory that handles still hold, and refuses more") {
  auto device = open_fake();
  const auto a = device->allocate(64);
  const Tensor t = make_tensor(device, DType::f32, {4}, Layout::row_major);
  device->close();
  CHECK(fake(*device).allocated == 0);
  CHECK(device->allocated_bytes() == 0);
  CHECK(a->data() == nullptr);
  CHECK(code_of([&] { device->allocate(8); }) == Code::disposed);
  float x = 0;
  CHECK(code_of([&] { read_bytes(t, 0, &x, 4); }) == Code::disposed);
  device->close();  // idempotent
}

TEST_CASE("device: touching reaches every byte of living memory once, in any number of pieces") {
  constexpr size_t kPiece = TouchMemory::kPieceBytes;
  for (int threads : {1, 3}) {
    auto device = open_fake(threads);
    const auto pool = std::make_shared<ThreadPool>(threads);
    TouchMemory(device, pool).run();
    CHECK(fake(*device).touched == 0);
    const auto small = device->allocate(100), exact = device->allocate(kPiece),
               large = device->allocate(2 * kPiece + 1);
    const auto empty = device->allocate(0);
    device->allocate(64);  // gone at once
    TouchMemory(device, pool).run();
    CHECK(fake(*device).touched == 100 + 3 * kPiece + 1);
  }
}

TEST_CASE("device: memory that was touched is not held once the touch has run") {
  auto device = open_fake();
  auto storage = device->allocate(100);
  TouchMemory touch(device, std::make_shared<ThreadPool>(1));
  touch.run();
  storage.reset();
  CHECK(device->allocated_bytes() == 0);
}

TEST_CASE("device: a cancelled touch says so and leaves the rest") {
  auto device = open_fake();
  const auto storage = device->allocate(100);
  TouchMemory touch(device, std::make_shared<ThreadPool>(1));
  touch.cancel();
  CHECK(code_of([&] { touch.run(); }) == Code::aborted);
  CHECK(fake(*device).touched == 0);
}

TEST_CASE("device: storage keeps its device") {
  auto device = open_fake();
  const auto storage = device->allocate(64);
  device.reset();
  CHECK(storage->device()->allocated_bytes() == 64);
}

TEST_CASE("device: memory that cannot be had is an error, not a null pointer") {
  auto device = open_fake();
  fake(*device).fail_allocation = 0;
  CHECK(code_of([&] { device->allocate(64); }) == Code::out_of_memory);
  CHECK(device->allocated_bytes() == 0);
}

TEST_CASE("tensor: hostile shapes are refused before anything is allocated") {
  auto device = open_fake();
  const auto refuses = [&](std::vector<int64_t> shape, Layout layout = Layout::row_major) {
    return code_of([&] { make_tensor(device, DType::f32, shape, layout); }) == Code::invalid_argument;
  };
  CHECK(refuses({-1}));
  CHECK(refuses({int64_t{1} << 31}));
  CHECK(refuses({2147483647, 2147483647}));
  CHECK(refuses({2147483647, 2147483647, 2147483647, 2147483647}));
  CHECK(refuses({1, 1, 1, 1, 1}));
  CHECK(refuses({4}, Layout::panels));
  CHECK(code_of([&] { make_tensor(device, DType::i32, {4, 4}, Layout::panels); }) == Code::invalid_argument);
  CHECK(fake(*device).allocations == 0);
  CHECK(make_tensor(device, DType::f32, {0, 5}, Layout::row_major).view.count() == 0);
}

TEST_CASE("tensor: bytes outside it are refused") {
  auto device = open_fake();
  const Tensor t = make_tensor(device, DType::f32, {4}, Layout::row_major);
  const float values[4] = {1, 2, 3, 4};
  write_bytes(t, 0, values, sizeof values);
  float back[2] = {};
  read_bytes(t, 8, back, 8);
  CHECK(back[0] == 3);
  CHECK(back[1] == 4);
  CHECK(code_of([&] { write_bytes(t, 12, values, 8); }) == Code::invalid_argument);
  CHECK(code_of([&] { read_bytes(t, std::numeric_limits<size_t>::max() - 3, back, 8); }) == Code::invalid_argument);
}

TEST_CASE("tensor: floats go in and out in every dtype, across conversion chunks") {
  auto device = open_fake();
  const int64_t count = 16384 + 3;
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 200);
  for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i32, DType::u8}) {
    const Tensor t = make_tensor(device, dtype, {count}, Layout::row_major);
    write_floats(t, values.data(), count);
    std::vector<float> back(values.size());
    read_floats(t, back.data(), count);
    CHECK(back == values);  // integers up to 200 are exact in all of them
  }
  const Tensor fp8 = make_tensor(device, DType::fp8_e4m3, {2}, Layout::row_major);
  const float given[2] = {0.3f, -1000.0f};
  float back[2] = {};
  write_floats(fp8, given, 2);
  read_floats(fp8, back, 2);
  CHECK(back[0] == 0.3125f);  // steps of 2^-5 there
  CHECK(back[1] == -448.0f);
}

TEST_CASE("tensor: a float that no integer can hold is refused") {
  auto device = open_fake();
  const Tensor t = make_tensor(device, DType::i32, {1}, Layout::row_major);
  for (float x : {std::nanf(""), 2147483648.0f, -3e9f, INFINITY}) {
    CHECK(code_of([&] { write_floats(t, &x, 1); }) == Code::invalid_argument);
  }
  const float most = -2147483648.0f;
  write_floats(t, &most, 1);
  float back = 0;
  read_floats(t, &back, 1);
  CHECK(back == most);
  CHECK(code_of([&] { write_floats(t, &most, 2); }) == Code::invalid_argument);
}

TEST_CASE("tensor: rows of weights outside the matrix are refused") {
  auto device = open_fake();
  const Tensor t = make_tensor(device, DType::bf16, {70, 3}, Layout::panels);
  const float rows[6] = {};
  write_rows(t, 68, 2, rows, DType::f32);
  CHECK(code_of([&] { write_rows(t, 69, 2, rows, DType::f32); }) == Code::invalid_argument);
  CHECK(code_of([&] { write_rows(t, -1, 1, rows, DType::f32); }) == Code::invalid_argument);
  CHECK(code_of([&] { write_rows(t, 0, 1, rows, DType::i32); }) == Code::invalid_argument);
}

TEST_CASE("kv pool: bytes are exactly 2 C Hk hd b per token, plus the scales") {
  for (int32_t heads : {1, 2, 5}) {
    for (int32_t head_dim : {2, 16, 64, 128}) {
      for (int64_t blocks : {1, 3, 10}) {
        auto device = open_fake();
        const std::vector<CacheSpec> specs(3, cache_spec(heads, head_dim, DType::fp8_e4m3, KvScales::dynamic));
        const auto pool = KvPool::create(device, blocks, specs);
        const int64_t per_token = 2 * 3 * heads * (head_dim * 1 + 4);
        CHECK(pool->block_bytes() == per_token * 16);
        CHECK(pool->byte_length() == per_token * 16 * blocks);
        CHECK(fake(*device).allocated == static_cast<size_t>(pool->byte_length()));
      }
    }
  }
  auto device = open_fake();
  const auto pool = KvPool::create(device, 7, {cache_spec(2, 64, DType::f32), cache_spec(1, 32, DType::bf16)});
  CHECK(pool->block_bytes() == 16 * (2 * 2 * 64 * 4 + 2 * 1 * 32 * 2));
}

TEST_CASE("kv pool: caches do not overlap, heads are 64-byte aligned, all of it can be written") {
  auto device = open_fake();
  const auto pool =
      KvPool::create(device, 5,
                     {cache_spec(3, 2, DType::fp8_e4m3, KvScales::dynamic), cache_spec(2, 6, DType::bf16),
                      cache_spec(1, 10, DType::f32), cache_spec(4, 4, DType::fp8_e4m3, KvScales::per_head)});
  const std::byte* end = pool->cache(0).data;
  int64_t total = 0;
  for (int32_t i = 0; i < pool->num_caches(); ++i) {
    const KvCache& c = pool->cache(i);
    CHECK(c.data == end);
    CHECK(reinterpret_cast<uintptr_t>(c.data) % 64 == 0);
    CHECK(c.head_bytes % 64 == 0);
    CHECK(c.block_bytes == c.head_bytes * c.num_kv_heads);
    std::memset(c.data, i + 1, static_cast<size_t>(c.block_bytes * c.num_blocks));
    end = c.data + c.block_bytes * c.num_blocks;
    total += c.block_bytes * c.num_blocks;
  }
  CHECK(total == pool->byte_length());
}

TEST_CASE("kv pool: static scales stand beside their cache") {
  auto device = open_fake();
  CacheSpec spec = cache_spec(2, 8, DType::fp8_e4m3, KvScales::per_head);
  spec.k_scale = {1.5f, 2.5f};
  spec.v_scale = {3.5f, 4.5f};
  const auto pool = KvPool::create(device, 2, {cache_spec(1, 8, DType::f32), spec, spec});
  CHECK(pool->cache(0).k_scale == nullptr);
  for (int32_t i : {1, 2}) {
    CHECK(pool->cache(i).k_scale[1] == 2.5f);
    CHECK(pool->cache(i).v_scale[0] == 3.5f);
  }
  CHECK(pool->block_bytes() == 16 * 2 * (8 * 4 + 2 * 2 * 8));  // no static scale counts per token
}

TEST_CASE("kv pool: wrong specs are refused before anything is allocated") {
  auto device = open_fake();
  const auto refuses = [&](int64_t blocks, const std::vector<CacheSpec>& specs) {
    return code_of([&] { KvPool::create(device, blocks, specs); }) == Code::invalid_argument;
  };
  CHECK(refuses(0, {cache_spec(1, 8, DType::f32)}));
  CHECK(refuses(int64_t{1} << 27, {cache_spec(1, 8, DType::f32)}));  // slots would leave i32
  CHECK(refuses(134217727, std::vector<CacheSpec>(200, cache_spec(65536, 512, DType::f32))));
  CHECK(refuses(1, {}));
  CHECK(refuses(1, {cache_spec(0, 8, DType::f32)}));
  CHECK(refuses(1, {cache_spec(1, 7, DType::f32)}));
  CHECK(refuses(1, {cache_spec(1, 514, DType::f32)}));
  CHECK(refuses(1, {cache_spec(1, 8, DType::i32)}));
  CHECK(refuses(1, {cache_spec(1, 8, DType::fp8_e4m3)}));
  CHECK(refuses(1, {cache_spec(1, 8, DType::bf16, KvScales::dynamic)}));
  CacheSpec spec = cache_spec(2, 8, DType::fp8_e4m3, KvScales::per_head);
  spec.v_scale.pop_back();
  CHECK(refuses(1, {spec}));
  spec.v_scale = {1.0f, std::nanf("")};
  CHECK(refuses(1, {spec}));
  CHECK(fake(*device).allocations == 0);
}

TEST_CASE("kv pool: an index out of range and a closed device are refused") {
  auto device = open_fake();
  const auto pool = KvPool::create(device, 1, {cache_spec(1, 8, DType::f32)});
  CHECK(code_of([&] { pool->cache(1); }) == Code::invalid_argument);
  CHECK(code_of([&] { pool->cache(-1); }) == Code::invalid_argument);
  device->close();
  CHECK(code_of([&] { pool->cache(0); }) == Code::disposed);
}

TEST_CASE("sampler table: slots start greedy and are written where they belong") {
  auto device = open_fake();
  const auto table = SamplerTable::create(device, 3, 50);
  CHECK(table->view().slots[2].temperature == 0);
  CHECK(table->view().slots[2].top_p == 1);
  SamplerSlot slot = {.temperature = 0.5f, .top_p = 0.9f, .min_p = 0, .top_k = 40, .seed = ~uint64_t{0}, .choice = 1};
  table->set(1, slot);
  CHECK(table->view().slots[1].seed == ~uint64_t{0});
  CHECK(table->view().slots[0].seed == 0);
  CHECK(code_of([&] { table->set(3, slot); }) == Code::invalid_argument);
  CHECK(code_of([&] { table->set(-1, slot); }) == Code::invalid_argument);
  slot.temperature = std::nanf("");
  CHECK(code_of([&] { table->set(0, slot); }) == Code::invalid_argument);
  CHECK(code_of([&] { SamplerTable::create(device, 0, 50); }) == Code::invalid_argument);
}
