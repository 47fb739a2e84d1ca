// The end of a step's program: logit rows are sampled, log-probabilities are of the rows on axis P alone.
#include <doctest/doctest.h>

#include <cmath>

#include "compare.h"
#include "core_fake_backend.h"
#include "core_program_sketch.h"
#include "sampling.h"

namespace swiftkv::test {
namespace {

using F = BatchField;

constexpr int64_t kVocab = 70;
constexpr int32_t kTop = 5;
constexpr BatchCapacity kCapacity = {.max_rows = 6,
                                     .max_seqs = 6,
                                     .max_logit_rows = 6,
                                     .max_blocks_per_seq = 1,
                                     .num_layers = 1,
                                     .vocab_size = kVocab,
                                     .max_top_logprobs = kTop,
                                     .max_copies = 1};

// A model whose token i has row i of `logits` as its logits.
struct SamplingModel : ProgramSketch {
  SamplingModel(std::shared_ptr<OpenDevice> on, const std::vector<SampledSequence>& sequences)
      : ProgramSketch(std::move(on), kCapacity),
        table(make_tensor(device, DType::f32, {kVocab, kVocab}, Layout::row_major)) {
    Rng rng(9);
    logits = random_values(rng, kVocab * kVocab, 6.0f);
    write_floats(table, logits.data(), kVocab * kVocab);
    const auto capacity = static_cast<int32_t>(sequences.size());
    samplers = SamplerTable::create(device, capacity, kVocab);
    for (int32_t i = 0; i < capacity; ++i)
      samplers->set(i, sequences[static_cast<size_t>(i)].state, sequences[static_cast<size_t>(i)].lists());

    const int32_t x = rows(Axis::T, kVocab), xs = rows(Axis::S, kVocab), xr = rows(Axis::R, kVocab);
    const int32_t ids = add(F::sampled_ids);
    op("embed", {{"ids", add(F::ids)}, {"table", add(table)}, {"x", x}});
    op("gather_rows", {{"x", x}, {"index", add(F::survivors)}, {"out", xs}});
    op("gather_rows", {{"x", xs}, {"index", add(F::logit_rows)}, {"out", xr}});
    op("sample", {{"logits", xr},
                  {"samplers", add(samplers)},
                  {"slots", add(F::sampler_slots)},
                  {"outputPositions", add(F::output_positions)},
                  {"forcedIds", add(F::forced_ids)},
                  {"bitmask", add(F::masks)},
                  {"maskRows", add(F::mask_rows)},
                  {"ids", ids}});
    op("logprobs", {{"logits", xr},
                    {"ids", ids},
                    {"rows", add(F::logprob_rows)},
                    {"chosen", add(F::chosen_logprobs)},
                    {"rank", add(F::ranks)},
                    {"topIds", add(F::top_ids)},
                    {"topLogprobs", add(F::top_logprobs)}});
    program = make();
  }

  std::vector<float> row(int32_t token) const {
    return {logits.begin() + token * kVocab, logits.begin() + (token + 1) * kVocab};
  }

  swiftkv::Tensor table;
  std::vector<float> logits;  // [kVocab, kVocab]
  std::shared_ptr<SamplerTable> samplers;
  std::shared_ptr<Program> program;
};

// Every row survives and has logits; row i is of slot i.
std::shared_ptr<Batch> batch_of(const std::vector<int32_t>& tokens, const std::vector<int32_t>& logprob_rows) {
  auto b = Batch::create(kCapacity);
  const auto rows = static_cast<int32_t>(tokens.size());
  set(*b, F::counts, {rows, rows, rows, 0, 0, static_cast<int32_t>(logprob_rows.size())});
  set(*b, F::ids, tokens);
  for (int32_t i = 0; i < rows; ++i) {
    for (F field : {F::survivors, F::logit_rows, F::sampler_slots}) b->data(field)[i] = i;
    b->data(F::forced_ids)[i] = b->data(F::mask_rows)[i] = -1;
  }
  set(*b, F::logprob_rows, logprob_rows);
  for (F field : {F::sampled_ids, F::chosen_logprobs, F::ranks, F::top_ids, F::top_logprobs})
    std::fill_n(b->data(field), b->length(field), -77);
  return b;
}

std::vector<SampledSequence> penalised_sequences() {
  std::vector<SampledSequence> sequences(6);
  for (size_t i = 0; i < sequences.size(); ++i) {
    sequences[i].state.temperature = i % 2 == 0 ? 0.0f : 1.0f;
    sequences[i].state.presence_penalty = 9.0f;
    sequences[i].state.seed = i;
  }
  return sequences;
}

TEST_CASE("program: log-probabilities of none, one, some, all and repeated rows are those of the raw logits") {
  for_each_level([](cpu::CpuLevel level) {
    for (const std::vector<int32_t>& picked :
         std::vector<std::vector<int32_t>>{{}, {0}, {3}, {3, 1}, {0, 1, 2, 3}, {2, 2, 0, 2, 3, 3}}) {
      std::vector<SampledSequence> sequences = penalised_sequences();
      const auto device =
          OpenDevice::open(*cpu_backend(), static_cast<int32_t>(level), 2, std::make_shared<ThreadPool>(2));
      const SamplingModel m(device, sequences);
      const std::vector<int32_t> tokens{7, 0, 7, 9};
      for (int step = 0; step < 3; ++step) {
        INFO("rows on P ", picked.size(), " step ", step);
        const auto batch = batch_of(tokens, picked);
        batch->data(F::forced_ids)[1] = step == 1 ? 69 : -1;
        batch->data(F::mask_rows)[3] = 5;  // only 64 and 69
        batch->data(F::masks)[5 * 3 + 2] = 0x21;
        for (int32_t i = 0; i < 4; ++i) batch->data(F::output_positions)[i] = step;
        run(*m.program, *batch);

        std::vector<float> chosen, top;
        std::vector<int32_t> ranks, top_ids;
        const uint32_t mask[3] = {0, 0, 0x21};
        for (int32_t i = 0; i < 4; ++i) {
          const SampledSequence& s = sequences[static_cast<size_t>(i)];
          CHECK(batch->data(F::sampled_ids)[i] == sample_reference(m.row(tokens[static_cast<size_t>(i)]), s, step,
                                                                   i == 3 ? mask : nullptr,
                                                                   batch->data(F::forced_ids)[i]));
        }
        CHECK(batch->data(F::sampled_ids)[4] == -77);
        for (size_t i = 0; i < static_cast<size_t>(batch->length(F::ranks)); ++i) {
          const auto* ids = batch->data(F::top_ids) + i * kTop;
          const auto* logprobs = reinterpret_cast<const float*>(batch->data(F::top_logprobs)) + i * kTop;
          if (i >= picked.size()) {  // behind the rows of this step nothing is written
            CHECK((batch->data(F::ranks)[i] == -77 && batch->data(F::chosen_logprobs)[i] == -77 && ids[0] == -77));
            continue;
          }
          const std::vector<float> row = m.row(tokens[static_cast<size_t>(picked[i])]);
          const int32_t id = batch->data(F::sampled_ids)[picked[i]];
          double sum = 0.0;
          int32_t rank = 1;
          for (float x : row) sum += std::exp(double{x}), rank += x > row[static_cast<size_t>(id)];
          CHECK(batch->data(F::ranks)[i] == rank);
          const auto logprob = [&](int32_t of) {
            return static_cast<float>(double{row[static_cast<size_t>(of)]} - std::log(sum));
          };
          // Magnitudes below 20: a rounding of the logit less the sum's logarithm, which is rounded once.
          const double allowed = 20.0 * 4.0 * kUnit;
          CHECK(std::fabs(reinterpret_cast<const float*>(batch->data(F::chosen_logprobs))[i] - logprob(id)) <= allowed);
          for (int32_t k = 0; k < kTop; ++k) {
            CHECK(std::fabs(logprobs[k] - logprob(ids[k])) <= allowed);
            CHECK(std::count_if(row.begin(), row.end(),
                                [&](float x) { return x > row[static_cast<size_t>(ids[k])]; }) == k);
          }
        }
        for (size_t i = 0; i < 4; ++i)
          if (batch->data(F::forced_ids)[i] < 0) sequences[i].outputs.push_back(batch->data(F::sampled_ids)[i]);
      }
      for (int32_t i = 0; i < 4; ++i) CHECK(counts_difference(*m.samplers, i, sequences[static_cast<size_t>(i)]) == "");
    }
  });
}

TEST_CASE("program: log-probabilities are skipped without rows, read the batch they belong to, and may come back") {
  const SamplingModel m(open_fake(), std::vector<SampledSequence>(6));
  const Batch* expected = nullptr;
  fake(*m.device).on_op = [&](OpKind kind, const void* params) {
    if (kind == OpKind::logprobs) {
      const auto& p = *static_cast<const LogprobsParams*>(params);
      CHECK(p.index == expected->data(F::logprob_rows));
      CHECK(p.rank == expected->data(F::ranks));
      CHECK(p.ids == expected->data(F::sampled_ids));
      CHECK(p.top_k == kTop);
    }
    return Status{};
  };
  for (const std::vector<int32_t>& picked : std::vector<std::vector<int32_t>>{{}, {1}, {}, {1, 0, 1, 0, 1, 0}, {0}}) {
    const auto batch = batch_of({1, 2}, picked);
    expected = batch.get();
    auto& ops = fake(*m.device).ops;
    ops.clear();
    run(*m.program, *batch);
    REQUIRE(ops.size() == (picked.empty() ? 4 : 5));
    CHECK((ops[3].kind == OpKind::sample && ops[3].rows == 2));
    if (!picked.empty()) CHECK(ops[4].rows == static_cast<int64_t>(picked.size()));
  }
}

TEST_CASE("program: rows, ids and masks that lead outside a step are refused before any op") {
  const SamplingModel m(open_fake(), std::vector<SampledSequence>(2));
  const auto code = [&](auto&& change) {
    const auto batch = batch_of({1, 2}, {0, 1});
    change(*batch);
    fake(*m.device).ops.clear();
    const Code result = run_code(*m.program, *batch);
    CHECK(fake(*m.device).ops.empty() == (result != Code::ok));
    return result;
  };
  CHECK(code([](Batch&) {}) == Code::ok);
  for (int32_t row : {-1, 2, INT32_MAX})
    CHECK(code([&](Batch& b) { b.data(F::logprob_rows)[1] = row; }) == Code::internal);
  for (int32_t id : {-2, 70}) CHECK(code([&](Batch& b) { b.data(F::forced_ids)[1] = id; }) == Code::internal);
  CHECK(code([](Batch& b) { b.data(F::forced_ids)[1] = 69; }) == Code::ok);
  for (int32_t row : {-2, 6}) CHECK(code([&](Batch& b) { b.data(F::mask_rows)[1] = row; }) == Code::internal);
  CHECK(code([](Batch& b) { b.data(F::mask_rows)[1] = 5; }) == Code::ok);
  CHECK(code([](Batch& b) { b.data(F::sampler_slots)[1] = 2; }) == Code::internal);
  for (int32_t count : {-1, 7})
    CHECK(code([&](Batch& b) { b.data(F::counts)[static_cast<int>(Axis::P)] = count; }) == Code::internal);
}

}  // namespace
}  // namespace swiftkv::test
