// sample and logprobs under every schedule; what they answer is tested by test/native (level_device.cpp).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compare.h"
#include "generators.h"
#include "sampling.h"
#include "simt_device.h"

namespace swiftkv::test {
namespace {

TEST_CASE("logprobs and sample keep to their scratch, under every schedule [race]") {
  const int64_t vocab = 1000;
  Rng rng(2);
  const std::vector<float> logits = random_values(rng, 2 * vocab, 5.0f);
  const SamplerSlot slot{.temperature = 0.8f, .top_p = 0.9f, .min_p = 0.01f, .top_k = 50, .seed = 3, .choice = 0};
  const std::vector<int32_t> slots{0, 0}, positions{4, 5};
  std::vector<int32_t> ids(2, -9), first;
  const SampleParams sample{2,       vocab,   logits.data(), &slot,     slots.data(), positions.data(),
                            nullptr, nullptr, nullptr,       ids.data()};
  std::vector<float> chosen(2), top(10), first_top;
  std::vector<int32_t> rank(2), top_ids(10);
  const LogprobsParams logprobs{
      2, vocab, 5, nullptr, logits.data(), slots.data(), chosen.data(), rank.data(), top_ids.data(), top.data()};
  for_each_schedule([&] {
    CHECK(why(SimtDevice().run(&cuda::sample, sample, &cuda::sample_scratch)) == "");
    CHECK(why(SimtDevice().run(&cuda::logprobs, logprobs, &cuda::logprobs_scratch)) == "");
    if (first.empty()) {
      first = ids;
      first_top = top;
    }
    CHECK(bit_difference(ids, first) == "");
    CHECK(bit_difference(top, first_top) == "");
  });
}

// Sequences with every kind of sampler, and a row of logits for each.
struct Step {
  explicit Step(int64_t vocab, int64_t count, uint64_t seed) : rows(vocab) {
    Rng rng(seed);
    for (int64_t i = 0; i < count; ++i) {
      SampledSequence s;
      s.state.temperature = i % 5 == 0 ? 0.0f : 0.4f * static_cast<float>(i % 5);
      s.state.top_k = i % 3 == 0 ? 0 : static_cast<int32_t>(1 + rng.below(std::max<int64_t>(vocab / (1 + i % 4), 1)));
      s.state.top_p = i % 2 == 0 ? 1.0f : 0.9f;
      s.state.min_p = i % 4 == 0 ? 0.001f : 0.0f;
      s.state.seed = rng.next();
      if (i % 4 == 1) s.state.repetition_penalty = 1.2f;
      if (i % 6 == 2) {
        // One id has several biases: they are added in the order of the list.
        const auto id = static_cast<int32_t>(rng.below(vocab));
        s.bias_ids = {id, static_cast<int32_t>(rng.below(vocab)), id, id};
        s.biases = {1e8f, 0.5f, -1e8f, 3.0f};
      }
      if (i % 3 == 1) {
        const auto end = static_cast<int32_t>(rng.below(vocab));
        s.end_ids = {end, static_cast<int32_t>(rng.below(vocab)), end};
        s.state.min_tokens = 3;
      }
      s.prompt = {static_cast<int32_t>(rng.below(vocab))};
      s.outputs = {static_cast<int32_t>(rng.below(vocab)), static_cast<int32_t>(rng.below(vocab))};
      sequences.push_back(s);
      rows.add(random_values(rng, vocab, 8.0f), static_cast<int32_t>(i), 2);
    }
  }

  std::vector<int32_t> run(const SimtDevice& device) const {
    const auto table = table_of(rows.vocab, sequences);
    std::vector<int32_t> ids(rows.count(), -7);
    const SampleParams p{static_cast<int64_t>(rows.count()),
                         rows.vocab,
                         rows.logits.data(),
                         table->view().slots,
                         rows.slots.data(),
                         rows.positions.data(),
                         nullptr,
                         nullptr,
                         nullptr,
                         ids.data()};
    CHECK(why(device.run(&cuda::sample, p, &cuda::sample_scratch)) == "");
    return ids;
  }

  SampleRows rows;
  std::vector<SampledSequence> sequences;
};

// Weights are the same doubles but for the last digits of exp: two draws differ where the uniform number is within
// about V 2^-52 of the border of a token, which none of these seeds comes near.
TEST_CASE("sample draws the reference's tokens of a vocabulary as large as models have") {
  const Step step(128256, 6, 5);
  CHECK(bit_difference(step.run(SimtDevice(90)), step.rows.expected(step.sequences)) == "");
}

TEST_CASE("sample: rows beyond a row for each multiprocessor go in waves and draw the same") {
  const Step step(997, 23, 6);
  const std::vector<int32_t> expected = step.rows.expected(step.sequences);
  for (const int32_t multiprocessors : {1, 2, 22, 23, 132}) {
    INFO("multiprocessors ", multiprocessors);
    CHECK(bit_difference(step.run(SimtDevice({80, multiprocessors, 163 * 1024, 164 * 1024})), expected) == "");
  }
}

TEST_CASE("sample adjusts and draws in the right order under every schedule [race]") {
  const Step step(97, 7, 8);
  const std::vector<int32_t> expected = step.rows.expected(step.sequences);
  for_each_schedule([&] { CHECK(bit_difference(step.run(SimtDevice(80)), expected) == ""); }, 2);
}

TEST_CASE("logprobs of a vocabulary as large as models have") {
  const int64_t vocab = 128256;
  const int32_t top_k = 20;
  Rng rng(7);
  std::vector<float> logits = random_values(rng, vocab, 10.0f);
  for (float& x : logits)
    if (rng.below(64) == 0) x = std::round(x);  // ties
  const std::vector<int32_t> id{100000};
  std::vector<float> chosen(1), top(top_k);
  std::vector<int32_t> rank(1), ids(top_k);
  const LogprobsParams p{1,         vocab,         top_k,       nullptr,    logits.data(),
                         id.data(), chosen.data(), rank.data(), ids.data(), top.data()};
  CHECK(why(SimtDevice(90).run(&cuda::logprobs, p, &cuda::logprobs_scratch)) == "");

  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  const float own = logits[static_cast<size_t>(id[0])];
  std::vector<int32_t> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  order.resize(top_k);
  std::vector<float> expected;
  for (const int32_t best : order)
    expected.push_back(static_cast<float>(static_cast<double>(logits[static_cast<size_t>(best)]) - std::log(sum)));
  CHECK(bit_difference(ids, order) == "");
  CHECK(rank[0] == 1 + std::count_if(logits.begin(), logits.end(), [&](float x) { return x > own; }));
  // log_sum is below 10 + log V = 22: three roundings of it, and exp's own error.
  CHECK(difference(top, expected, 22.0 * 4.0 * kUnit, 2.0 * kUnit) == "");
  CHECK(difference(chosen, {static_cast<float>(static_cast<double>(own) - std::log(sum))}, 22.0 * 4.0 * kUnit,
                   2.0 * kUnit) == "");
}

}  // namespace
}  // namespace swiftkv::test
