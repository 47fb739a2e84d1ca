// Memory ends at every allocation of what a load makes: a coded error, nothing held, and the next attempt works.
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "core/batch.h"
#include "core/kv_pool.h"
#include "core/program.h"
#include "core/sampler_table.h"
#include "core/tensor.h"
#include "core/touch_memory.h"
#include "core_fake_backend.h"

using namespace swiftkv;
using test::fake;
using test::open_fake;

namespace {

constexpr BatchCapacity kCapacity = {.max_rows = 8,
                                     .max_seqs = 3,
                                     .max_logit_rows = 4,
                                     .max_blocks_per_seq = 4,
                                     .num_layers = 1,
                                     .vocab_size = 10,
                                     .max_top_logprobs = 3,
                                     .max_copies = 2};

// Everything that a load makes, in its order.
struct Loaded {
  std::vector<Tensor> weights;
  std::shared_ptr<KvPool> pool;
  std::shared_ptr<SamplerTable> samplers;
  std::shared_ptr<Batch> batch;
  std::shared_ptr<Program> program;

  explicit Loaded(const std::shared_ptr<OpenDevice>& device) {
    const Tensor table = make_tensor(device, DType::f32, {10, 6}, Layout::row_major, MemoryPart::weights);
    const Tensor norm = make_tensor(device, DType::f32, {6}, Layout::row_major, MemoryPart::weights);
    weights = {table, norm, make_tensor(device, DType::f32, {64, 6}, Layout::row_major, MemoryPart::rope_table)};
    CacheSpec spec{1, 8, DType::fp8_e4m3, KvScales::per_head, {0.5f}, {0.5f}};
    pool = KvPool::create(device, 3, {spec, spec});
    samplers = SamplerTable::create(device, 3, 10);
    batch = Batch::create(kCapacity, device->memory());
    ProgramDescription d{.name = "step", .capacity = kCapacity, .tensors = {}, .steps = {}};
    const auto add = [&](auto t) {
      d.tensors.emplace_back(std::in_place_type<decltype(t)>, std::move(t));
      return static_cast<int32_t>(d.tensors.size()) - 1;
    };
    const int32_t x = add(BufferTensor{DType::f32, {{Axis::T, 0}, {Axis::none, 6}}});
    const int32_t out = add(BufferTensor{DType::f32, {{Axis::T, 0}, {Axis::none, 6}}});
    const int32_t ids = add(BatchField::ids), e = add(table), w = add(norm);
    d.steps.emplace_back(std::in_place_type<ProgramOp>, ProgramOp{"embed", {{"ids", ids}, {"table", e}, {"x", x}}, {}});
    d.steps.emplace_back(std::in_place_type<ProgramOp>,
                         ProgramOp{"rms_norm", {{"x", x}, {"w", w}, {"out", out}}, {{"eps", 1e-5}}});
    program = Program::create(device, d);
  }
};

}  // namespace

TEST_CASE("memory faults: every allocation of a load fails in turn; nothing stays, and the next load works") {
  size_t allocations = 0;
  {
    auto device = open_fake();
    fake(*device).scratch = 100;
    const Loaded whole(device);
    allocations = fake(*device).allocations;
    CHECK(device->memory()->bytes(MemoryPart::weights) == 10 * 6 * 4 + 6 * 4);
    CHECK(device->memory()->bytes(MemoryPart::rope_table) == 64 * 6 * 4);
    CHECK(device->memory()->bytes(MemoryPart::workspace) == whole.program->workspace_bytes());
    CHECK(device->memory()->total() - device->memory()->bytes(MemoryPart::batches) == fake(*device).allocated);
  }
  REQUIRE(allocations >= 7);
  for (size_t k = 0; k < allocations; ++k) {
    CAPTURE(k);
    const auto whole = std::make_shared<MemoryUse>();
    auto device = OpenDevice::open(test::fake_backend(), 0, 1, std::make_shared<ThreadPool>(1), nullptr, whole);
    fake(*device).scratch = 100;
    fake(*device).fail_allocation = static_cast<int64_t>(k);
    Code code = Code::ok;
    try {
      const Loaded part(device);
    } catch (const Error& e) {
      code = e.code;
    }
    CHECK(code == Code::out_of_memory);
    CHECK(fake(*device).allocated == 0);
    CHECK(device->memory()->total() == 0);
    CHECK(whole->total() == 0);
    {
      const Loaded again(device);
      CHECK(whole->total() == device->memory()->total());
      device->close();
      CHECK(fake(*device).allocated == 0);
      CHECK(device->memory()->total() == device->memory()->bytes(MemoryPart::batches));
    }
    CHECK(whole->total() == 0);
  }
}

TEST_CASE("memory faults: scratch that cannot grow is gone, not half there, and comes back") {
  auto device = open_fake();
  device->scratch(100);
  CHECK(device->memory()->bytes(MemoryPart::scratch) == 100);
  fake(*device).fail_allocation = 1;
  CHECK_THROWS_AS(device->scratch(1000), Error);
  CHECK(device->memory()->total() == 0);
  CHECK(fake(*device).allocated == 0);
  CHECK(device->scratch(1000) != nullptr);
  CHECK(device->memory()->bytes(MemoryPart::scratch) == 1000);
}
