// The program: what it refuses to be made of, what it runs, what it counts, and how it stops.
#include <doctest/doctest.h>
#include <atomic>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "core/executor.h"
#include "core/program.h"
#include "core_fake_backend.h"
#include "core_operands.h"
#include "core_program_sketch.h"

using namespace swiftkv;
using namespace swiftkv::test;
using F = BatchField;

namespace {

constexpr BatchCapacity kCapacity = {.max_rows = 8,
                                     .max_seqs = 3,
                                     .max_logit_rows = 4,
                                     .max_blocks_per_seq = 4,
                                     .num_layers = 2,
                                     .vocab_size = 70,
                                     .max_top_logprobs = 3,
                                     .max_copies = 2};
constexpr int64_t kWidth = 6;

// A model of two layers, the first on T, the second on S; the tensors by name.
struct Model : ProgramSketch {
  Model() : ProgramSketch(open_fake(2), kCapacity) {}
  int32_t rows(Axis axis, int64_t width = kWidth, DType dtype = DType::f32) {
    return ProgramSketch::rows(axis, width, dtype);
  }

  int32_t x = 0, xs = 0, w = 0, out = 0;

  // embed; layer 0: rms_norm on T; gather; layer 1: rms_norm on S
  void two_layers() {
    const int32_t table = constant(DType::f32, {10, kWidth});
    w = constant(DType::f32, {kWidth});
    x = rows(Axis::T);
    xs = rows(Axis::S);
    out = rows(Axis::T, kWidth, DType::bf16);
    const int32_t outs = rows(Axis::S);
    op("embed", {{"ids", add(F::ids)}, {"table", table}, {"x", x}});
    mark(0, Axis::T);
    op("rms_norm", {{"x", x}, {"w", w}, {"out", out}}, {{"eps", 1e-5}});
    op("gather_rows", {{"x", x}, {"index", add(F::survivors)}, {"out", xs}});
    mark(1, Axis::S);
    op("rms_norm", {{"x", xs}, {"w", w}, {"out", outs}}, {{"eps", 1e-5}});
  }
};

// T = 5 (sequence in table row 2 has four rows, table row 0 one), S = 1 (of table row 0).
std::shared_ptr<Batch> five_rows() {
  auto b = Batch::create(kCapacity);
  set(*b, F::counts, {5, 1, 1, 2, 1});
  set(*b, F::ids, {1, 2, 3, 4, 9});
  set(*b, F::query_start_t, {0, 4, 5});
  set(*b, F::table_row_t, {2, 0});
  set(*b, F::survivors, {4});
  set(*b, F::query_start_s, {0, 1});
  set(*b, F::table_row_s, {0});
  return b;
}

}  // namespace

TEST_CASE("program: every op runs in order with the rows of its axis, and the rows of layers are counted") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  const auto batch = five_rows();
  for (int round = 0; round < 2; ++round) {
    fake(*m.device).ops.clear();
    CHECK(run(*program, *batch).ms >= 0);
    const auto& ops = fake(*m.device).ops;
    REQUIRE(ops.size() == 4);
    CHECK(ops[0].kind == OpKind::embed);
    CHECK(ops[0].rows == 5);
    CHECK(ops[1].rows == 5);
    CHECK(ops[2].kind == OpKind::gather_rows);
    CHECK(ops[2].rows == 1);
    CHECK(ops[3].rows == 1);
    CHECK(values(*batch, F::layer_rows) == std::vector<int32_t>{5, 1});  // of this run, not of all runs
    CHECK(values(*batch, F::row_layers) == std::vector<int32_t>{2, 0, 4});
  }
}

TEST_CASE("program: ops without rows are skipped, and rows may come back") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  const auto batch = five_rows();
  set(*batch, F::counts, {5, 0, 0, 2, 0});
  run(*program, *batch);
  CHECK(fake(*m.device).ops.size() == 2);
  CHECK(values(*batch, F::layer_rows) == std::vector<int32_t>{5, 0});
  CHECK(values(*batch, F::row_layers) == std::vector<int32_t>{1, 0, 4});
  run(*program, *Batch::create(kCapacity));
  CHECK(fake(*m.device).ops.size() == 2);
  run(*program, *five_rows());
  CHECK(fake(*m.device).ops.size() == 6);
}

TEST_CASE("program: block copies run on their own axis, before rows, and are held against the pool") {
  Model m;
  const auto pool = KvPool::create(m.device, 5, {{1, 4, DType::f32, KvScales::none, {}, {}}});
  const int32_t caches = m.add(std::vector<CacheRef>{{pool, 0}});
  m.op("copy_blocks", {{"from", m.add(F::copy_sources)}, {"to", m.add(F::copy_destinations)}, {"caches", caches}});
  m.two_layers();
  const auto program = m.make();
  CHECK(program->limits().num_blocks == 5);
  const auto batch = five_rows();
  run(*program, *batch);
  CHECK(fake(*m.device).ops.size() == 4);
  set(*batch, F::counts, {5, 1, 1, 2, 1, 0, 2});
  set(*batch, F::copy_sources, {4, 4});
  set(*batch, F::copy_destinations, {1, 0});
  fake(*m.device).ops.clear();
  run(*program, *batch);
  REQUIRE(fake(*m.device).ops.size() == 5);
  CHECK(fake(*m.device).ops[0].kind == OpKind::copy_blocks);
  CHECK(fake(*m.device).ops[0].rows == 2);
  fake(*m.device).ops.clear();
  for (const int32_t bad : {5, -1, 0, 4}) {
    batch->data(F::copy_destinations)[0] = bad;
    CHECK(run_code(*program, *batch) == Code::internal);
  }
  CHECK(fake(*m.device).ops.empty());
}

TEST_CASE("program: two batches take turns, and each run reads its own") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  const std::shared_ptr<Batch> batches[] = {five_rows(), five_rows()};
  const int32_t* expected = nullptr;
  fake(*m.device).on_op = [&](OpKind kind, const void* params) {
    if (kind == OpKind::embed) CHECK(static_cast<const EmbedParams*>(params)->ids == expected);
    return Status{};
  };
  for (int round = 0; round < 4; ++round) {
    expected = batches[round % 2]->data(F::ids);
    run(*program, *batches[round % 2]);
  }
}

TEST_CASE("program: an error in the middle stops it there, names the step, and the next run is whole") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  const auto batch = five_rows();
  fake(*m.device).on_op = [](OpKind kind, const void*) {
    return kind == OpKind::gather_rows ? fail(Code::numeric, "row 0 is NaN") : Status{};
  };
  CHECK(message_of([&] { run(*program, *batch); }) == "step 3 (gather_rows): row 0 is NaN");
  CHECK(fake(*m.device).ops.size() == 3);
  CHECK_FALSE(program->in_flight());
  fake(*m.device).on_op = nullptr;
  CHECK(run_code(*program, *batch) == Code::ok);
}

TEST_CASE("program: cancel stops before the next op, and does not reach into the next run") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  const auto batch = five_rows();
  fake(*m.device).on_op = [&](OpKind kind, const void*) {
    if (kind == OpKind::rms_norm) program->cancel();
    return Status{};
  };
  CHECK(run_code(*program, *batch) == Code::aborted);
  CHECK(fake(*m.device).ops.size() == 2);
  fake(*m.device).on_op = nullptr;
  CHECK(run_code(*program, *batch) == Code::ok);
  program->cancel();  // nothing in flight
  CHECK(run_code(*program, *batch) == Code::ok);
  program->begin();
  program->cancel();  // announced, not yet begun
  CHECK_THROWS_AS(program->run(*batch), Error);
}

TEST_CASE("program: one run at a time") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  program->begin();
  CHECK(message_of([&] { program->begin(); }) == "program step is running: one run at a time");
  float out[48];
  CHECK(message_of([&] { program->read_buffer(m.x, 1, out); }).find("between runs") != std::string::npos);
  program->abandon();
  CHECK(run_code(*program, *five_rows()) == Code::ok);
}

TEST_CASE("program: a batch that would lead a kernel astray, or of another capacity, runs nothing") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  const auto batch = five_rows();
  batch->data(F::ids)[2] = 10;
  CHECK(run_code(*program, *batch) == Code::internal);
  batch->data(F::ids)[2] = 0;
  batch->data(F::table_row_s)[0] = 3;  // would count outside rowLayers
  CHECK(run_code(*program, *batch) == Code::internal);
  BatchCapacity other = kCapacity;
  other.max_rows = 9;
  CHECK(run_code(*program, *Batch::create(other)) == Code::invalid_argument);
  CHECK(fake(*m.device).ops.empty());
}

TEST_CASE("program: limits are those of the tightest op") {
  Model m;
  const auto pool = KvPool::create(m.device, 7, {{1, 2, DType::f32, KvScales::none, {}, {}}});
  const int32_t a = m.rows(Axis::T),
                q = m.add(BufferTensor{DType::f32, {{Axis::T, 0}, {Axis::none, 3}, {Axis::none, 2}}});
  const int32_t positions = m.add(F::positions_t), slots = m.add(F::slots_t);
  const int32_t w = m.constant(DType::f32, {10, kWidth}, Layout::panels);
  const int32_t cache = m.add(CacheRef{pool, 0});
  for (int64_t length : {50, 0, 40}) {
    m.op("qkv_rope_cache",
         {{"a", a},
          {"w", w},
          {"rope", m.constant(DType::f32, {length, 2})},
          {"positions", positions},
          {"slots", slots},
          {"q", q},
          {"cache", cache}},
         {{"numHeads", 3.0}});
  }
  const auto program = m.make();
  CHECK(program->limits().positions == 0);
  CHECK(program->limits().vocab == BatchLimits::kNone);
  CHECK(program->limits().num_blocks == 7);
  CHECK(program->limits().uses(F::slots_t));
  CHECK_FALSE(program->limits().uses(F::positions_s));
}

TEST_CASE("program: memory is taken once; a run takes none") {
  Model m;
  m.two_layers();
  fake(*m.device).scratch = 1000;
  const size_t before = m.device->allocated_bytes();
  {
    const auto program = m.make();
    // x, xs, outs: 8 * 6 * 4 = 192 bytes; out: 96, to the next 64
    CHECK(program->workspace_bytes() == 3 * 192 + 128 + 1000);
    CHECK(m.device->allocated_bytes() == before + program->workspace_bytes());
    const size_t allocations = fake(*m.device).allocations;
    run(*program, *five_rows());
    CHECK(fake(*m.device).allocations == allocations);
  }
  CHECK(m.device->allocated_bytes() == before);
}

TEST_CASE("program: it keeps what it uses; a closed device refuses to run it") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  m.description.tensors.clear();
  fake(*m.device).on_op = [](OpKind kind, const void* params) {
    if (kind == OpKind::rms_norm) CHECK(static_cast<const RmsNormParams*>(params)->w[5] == 0);
    return Status{};
  };
  CHECK(run_code(*program, *five_rows()) == Code::ok);
  m.device->close();
  CHECK(run_code(*program, *five_rows()) == Code::disposed);
}

TEST_CASE("program: mistakes in a description are refused with the step they are in") {
  const auto error_with = [](const std::function<void(Model&)>& change) {
    Model m;
    m.two_layers();
    change(m);
    return m.error();
  };
  const AttrList eps = {{"eps", 1e-5}};
  CHECK(
      error_with([&](Model& m) { m.op("rms_norm", {{"x", m.xs}, {"w", m.w}, {"out", m.out}}, eps); }) ==
      "step 6 (rms_norm): operand out has shape [T (8), 6], expected [rows, d] with rows = S (8) from x, d = 6 from x");
  CHECK(error_with([&](Model& m) { m.op("rms_norm", {{"x", m.x}, {"w", 99}, {"out", m.out}}, eps); }) ==
        "step 6 (rms_norm): operand w is tensor 99, which the program does not have");
  CHECK(error_with([&](Model& m) { m.op("norm", {}); }) == "step 6 (norm): there is no op named 'norm'");
  CHECK(error_with([&](Model& m) { m.op("rms_norm", {{"x", m.x}, {"w", m.w}, {"out", m.x}}, eps); }) ==
        "step 6 (rms_norm): operand out is written and also another operand: results need memory of their own");
  CHECK(error_with([&](Model& m) {
          const int32_t constant = m.constant(DType::f32, {8, kWidth});
          m.op("copy_rows", {{"in", constant}, {"out", constant}});
        }).find("operand out is written, expected a buffer but received a constant") != std::string::npos);
  CHECK(error_with([&](Model& m) {
          const int32_t index = m.add(BufferTensor{DType::i32, {{Axis::S, 0}}});
          m.op("gather_rows", {{"x", m.x}, {"index", index}, {"out", m.xs}});
        }).find("operand index holds indices, expected a field of the batch") != std::string::npos);
  CHECK(error_with([&](Model& m) {
          m.op("gather_rows", {{"x", m.xs}, {"index", m.add(F::survivors)}, {"out", m.xs}});
        }).find("step 6 (gather_rows)") != std::string::npos);
  CHECK(error_with([&](Model& m) {
          const int32_t xr = m.rows(Axis::R);
          m.op("gather_rows", {{"x", m.x}, {"index", m.add(F::logit_rows)}, {"out", xr}});
        }).find("batch field logitRows cannot be operand index") != std::string::npos);
  CHECK(error_with([&](Model& m) {
          m.op("embed", {{"ids", m.add(F::positions_t)}, {"table", m.constant(DType::f32, {10, kWidth})}, {"x", m.x}});
        }).find("batch field positionsT cannot be operand ids") != std::string::npos);
  CHECK(error_with([&](Model& m) { m.mark(2, Axis::T); }) == "step 6: Expected a layer below 2 on axis T or S");
  CHECK(error_with([&](Model& m) { m.mark(0, Axis::R); }) != "");
  CHECK(error_with([&](Model& m) {
          m.add(BufferTensor{DType::f32, {{Axis::none, 4}, {Axis::T, 0}}});
        }).find("tensor 8: Expected a row axis only as the first dimension") != std::string::npos);
  CHECK(error_with([&](Model& m) {
          m.add(BufferTensor{DType::f32, {{Axis::T, 0}, {Axis::none, 2147483647}, {Axis::none, 2147483647}}});
        }).find("larger than any machine's memory") != std::string::npos);
  CHECK(error_with([&](Model& m) { m.description.capacity.max_rows = 0; }) != "");
}

TEST_CASE("program: buffers are read back as f32, rows first") {
  Model m;
  m.two_layers();
  const auto program = m.make();
  fake(*m.device).on_op = [](OpKind kind, const void* params) {
    if (kind == OpKind::rms_norm) {
      const auto& p = *static_cast<const RmsNormParams*>(params);
      if (p.out.dtype == DType::bf16) {
        for (int i = 0; i < 12; ++i) static_cast<bf16*>(p.out.data)[i] = to_bf16(static_cast<float>(i) / 2);
      }
    }
    return Status{};
  };
  run(*program, *five_rows());
  CHECK(program->buffer_row_size(m.out) == kWidth);
  std::vector<float> out(12);
  program->read_buffer(m.out, 2, out.data());
  for (size_t i = 0; i < out.size(); ++i) CHECK(out[i] == static_cast<float>(i) / 2);
  CHECK_THROWS_AS(program->read_buffer(m.out, 9, out.data()), Error);
  CHECK_THROWS_AS(program->read_buffer(m.out, -1, out.data()), Error);
  CHECK_THROWS_AS(program->buffer_row_size(m.w), Error);
  CHECK_THROWS_AS(program->buffer_row_size(-1), Error);
  CHECK_THROWS_AS(program->buffer_row_size(1000), Error);
}

TEST_CASE("program: a step through the executor, stopped at any time, tells its caller once") {
  for (int delay_us : {0, 30, 300, 3000}) {
    Model m;
    m.two_layers();
    const auto program = m.make();
    fake(*m.device).on_op = [](OpKind, const void*) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      return Status{};
    };
    std::atomic<int> told{0};
    std::atomic<int> code{0};
    {
      Executor executor;
      submit_step(executor, program, five_rows(), [&](const Error* e, StepResult) {
        code = static_cast<int>(e == nullptr ? Code::ok : e->code);
        told.fetch_add(1);
      });
      CHECK_THROWS_AS(submit_step(executor, program, five_rows(), [](const Error*, StepResult) {}), Error);
      std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
    }
    CHECK(told.load() == 1);
    CHECK((code.load() == static_cast<int>(Code::ok) || code.load() == static_cast<int>(Code::aborted)));
    CHECK_FALSE(program->in_flight());
    Executor stopped;
    stopped.stop();
    CHECK_THROWS_AS(submit_step(stopped, program, five_rows(), [](const Error*, StepResult) {}), Error);
    CHECK_FALSE(program->in_flight());
  }
}

TEST_CASE("program: its caller may dispose of everything while it runs") {
  Executor executor;
  std::promise<Code> done;
  std::weak_ptr<Program> watch;
  {
    Model m;
    m.two_layers();
    auto program = m.make();
    watch = program;
    fake(*m.device).on_op = [](OpKind, const void*) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return Status{};
    };
    submit_step(executor, std::move(program), five_rows(),
                [&](const Error* e, StepResult) { done.set_value(e == nullptr ? Code::ok : e->code); });
  }
  CHECK(done.get_future().get() == Code::ok);
  executor.stop();
  CHECK(watch.expired());
}
