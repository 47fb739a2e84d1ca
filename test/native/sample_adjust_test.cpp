// sample: what a sampler does to its row before the draw, step by step, and rows that have no answer. Against a plain
// reference in double, at every level.
#include <doctest/doctest.h>

#include <cfloat>
#include <cmath>

#include "sampling.h"

namespace swiftkv::test {
namespace {

// Every id forbidden but those given, whose logits are 0.
std::vector<float> only(int64_t vocab, const std::vector<int32_t>& ids) {
  std::vector<float> row(static_cast<size_t>(vocab), -INFINITY);
  for (int32_t id : ids) row[static_cast<size_t>(id)] = 0.0f;
  return row;
}

// Checks that the row's logit at `id` is adjusted to exactly these bits: against a rival one float away on either side,
// and a rival that is equal, whose tie goes to the lower id.
void check_bits(const LevelDevice& device, float logit, int32_t id, const SampledSequence& sequence, float bits) {
  const int64_t vocab = 40;
  std::vector<SampledSequence> sequences;
  SampleRows rows(vocab);
  std::vector<int32_t> expected;
  for (int32_t rival : {id - 1, id + 1}) {
    for (float value : {std::nextafter(bits, -INFINITY), bits, std::nextafter(bits, INFINITY)}) {
      if (value == INFINITY) continue;
      std::vector<float> row = only(vocab, {});
      row[static_cast<size_t>(id)] = logit;
      row[static_cast<size_t>(rival)] = value;
      rows.add(row, static_cast<int32_t>(sequences.size()), static_cast<int64_t>(sequence.outputs.size()));
      sequences.push_back(sequence);
      expected.push_back(value < bits ? id : value > bits ? rival : std::min(id, rival));
    }
  }
  INFO("logit ", logit, " is to become ", bits, " at id ", id);
  CHECK(rows.run(device, *table_of(vocab, sequences)) == expected);
}

TEST_CASE("sample: a repeated token's logit is divided if positive, else multiplied, once, from prompt and outputs") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    SampledSequence s;
    s.state.repetition_penalty = 1.3f;
    for (const auto& [prompt, outputs] : {std::pair<std::vector<int32_t>, std::vector<int32_t>>{{7, 7, 7}, {}},
                                          {{}, {7, 7}},
                                          {{7}, {7}},
                                          {{0, 7, 39}, {0, 7, 39}}}) {
      s.prompt = prompt;
      s.outputs = outputs;
      check_bits(device, 2.6f, 7, s, 2.6f / 1.3f);
      check_bits(device, -2.6f, 7, s, -2.6f * 1.3f);
      check_bits(device, 0.0f, 7, s, 0.0f);
      check_bits(device, 2.6f, 9, s, 2.6f);  // never seen
    }
  });
}

TEST_CASE("sample: presence and frequency penalties count outputs alone") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    SampledSequence s;
    s.state.presence_penalty = 0.5f;
    s.prompt = {7, 7};
    check_bits(device, 1.0f, 7, s, 1.0f);
    s.outputs = {7, 7, 7, 9};
    check_bits(device, 1.0f, 7, s, 0.5f);
    s.state.frequency_penalty = 0.25f;
    check_bits(device, 1.0f, 7, s, -0.25f);
    check_bits(device, 1.0f, 9, s, 0.25f);
    s.state.presence_penalty = 0.0f;
    check_bits(device, 1.0f, 7, s, 0.25f);
    s.state.frequency_penalty = -0.25f;  // asks for repetition
    check_bits(device, 1.0f, 7, s, 1.75f);
  });
}

TEST_CASE("sample: a bias is added, twice if given twice, and one of -inf forbids whatever else is given") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    SampledSequence s;
    s.bias_ids = {7, 31, 7};
    s.biases = {0.25f, 100.0f, 0.5f};
    check_bits(device, 1.0f, 7, s, 1.75f);
    s.biases = {-INFINITY, 100.0f, 0.5f};
    CHECK(next_id(device, only(33, {7, 32}), s) == 32);
    CHECK(next_id(device, only(33, {7, 31, 32}), s) == 31);
    CHECK(next_id(device, only(33, {7}), s) == kNothingAllowed);
    s.biases = {0.25f, 100.0f, -INFINITY};
    CHECK(next_id(device, only(33, {7, 32}), s) == 32);
    CHECK(next_id(device, only(33, {32}), s) == 32);  // a bias does not allow what the row has at -inf
  });
}

TEST_CASE("sample: an ending id may not come before the minimum is reached, and may from there on") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (float temperature : {0.0f, 1.0f}) {
      SampledSequence s;
      s.state.temperature = temperature;
      s.end_ids = {0, 32};
      for (int32_t min_tokens : {0, 1, 5}) {
        s.state.min_tokens = min_tokens;
        std::vector<float> row(33, 0.0f);
        row[0] = row[32] = 200.0f;
        SampleRows rows(33);
        for (int64_t position = 0; position <= min_tokens + 1; ++position) rows.add(row, 0, position);
        const std::vector<int32_t> ids = rows.run(device, *table_of(33, {s}));
        for (size_t i = 0; i < ids.size(); ++i) {
          INFO("position ", i, " of at least ", min_tokens);
          CHECK((ids[i] == 0 || ids[i] == 32) == (static_cast<int32_t>(i) >= min_tokens));
        }
        CHECK(ids == rows.expected({s}));
      }
      s.state.min_tokens = 1;
      CHECK(next_id(device, only(33, {0, 32}), s) == kNothingAllowed);
    }
  });
}

TEST_CASE("sample: each row has its mask, shared or none, and bits behind the vocabulary mean nothing") {
  for_each_level([](cpu::CpuLevel level) {
    for (int64_t vocab : {int64_t{1}, int64_t{31}, int64_t{33}}) {
      SampleRows rows(vocab);
      rows.masks.assign(static_cast<size_t>(3 * rows.words()), ~uint32_t{0});
      for (int64_t v = 0; v < vocab; ++v) {
        for (int64_t mask : {0, 1}) {
          if (mask == 1 && v == vocab - 1) continue;  // mask 1 allows the last token, mask 0 none, mask 2 all
          rows.masks[static_cast<size_t>(mask * rows.words() + v / 32)] &= ~(uint32_t{1} << (v % 32));
        }
      }
      std::vector<float> row(static_cast<size_t>(vocab), 0.0f);
      row[0] = 1.0f;
      const auto last = static_cast<int32_t>(vocab - 1);
      for (int32_t mask : {1, 0, -1, 2, 1, 0}) rows.add(row, 0, 0, -1, mask);
      CHECK(rows.run(LevelDevice(level, 2), *table_of(vocab, {SampledSequence{}})) ==
            std::vector<int32_t>{last, kNothingAllowed, 0, 0, last, kNothingAllowed});
      // The mask holds also on a row that is adjusted: no bias brings a token back.
      SampledSequence biased;
      biased.bias_ids = {0};
      biased.biases = {50.0f};
      CHECK(rows.run(LevelDevice(level, 2), *table_of(vocab, {biased})) ==
            std::vector<int32_t>{last, kNothingAllowed, 0, 0, last, kNothingAllowed});
    }
  });
}

TEST_CASE("sample: a forced id is taken whatever forbids it, and a row without numbers is still told") {
  for_each_level([](cpu::CpuLevel level) {
    SampledSequence s;
    s.state.presence_penalty = 1.0f;
    s.bias_ids = s.end_ids = {5};
    s.biases = {-INFINITY};
    s.state.min_tokens = 100;
    const std::vector<SampledSequence> sequences{s};
    const auto table = table_of(33, sequences);
    SampleRows rows(33);
    rows.masks.assign(2, 0);
    std::vector<float> row(33, 0.0f);
    rows.add(row, 0, 0, 5, 0);
    rows.add(only(33, {3}), 0, 1, 32, 0);  // -inf at the forced id itself
    rows.add(only(33, {}), 0, 2, 5);
    for (float bad : {NAN, -NAN, INFINITY}) {
      for (size_t at : {size_t{0}, size_t{5}, size_t{32}}) {
        std::vector<float> poisoned = row;
        poisoned[at] = bad;
        rows.add(poisoned, 0, 3, 5, 0);
      }
    }
    std::vector<int32_t> expected(rows.count(), kNoNumbers);
    expected[0] = 5;
    expected[1] = 32;
    CHECK(rows.run(LevelDevice(level, 2), *table) == expected);
    CHECK(counts_difference(*table, 0, s) == "");  // none of them counts
  });
}

TEST_CASE("sample: a row without numbers is told from a row of which nothing is allowed") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (int64_t vocab : {int64_t{1}, int64_t{33}}) {
      for (float temperature : {0.0f, 1.0f}) {
        SampledSequence plain, biased, ending;
        for (SampledSequence* s : {&plain, &biased, &ending}) s->state.temperature = temperature;
        for (int32_t id = 0; id < vocab; ++id) {
          biased.bias_ids.push_back(id);
          biased.biases.push_back(-INFINITY);
          ending.end_ids.push_back(id);
        }
        ending.state.min_tokens = 1;
        const std::vector<SampledSequence> sequences{plain, biased, ending};
        SampleRows rows(vocab);
        rows.masks.assign(static_cast<size_t>(rows.words()), 0);
        std::vector<int32_t> expected;
        for (float last : {0.0f, -INFINITY, NAN, INFINITY}) {
          std::vector<float> row(static_cast<size_t>(vocab), -INFINITY);
          row.back() = last;
          for (int32_t slot : {0, 1, 2}) {
            for (int32_t mask : {-1, 0}) {
              if (slot == 0 && mask < 0) continue;
              rows.add(row, slot, 0, -1, mask);
              expected.push_back(last == 0.0f ? kNothingAllowed : kNoNumbers);
            }
          }
        }
        CHECK(rows.run(device, *table_of(vocab, sequences)) == expected);
      }
    }
  });
}

TEST_CASE("sample: adjusted logits have the same bits at every level, and finite ones stay finite") {
  Rng rng(6);
  const std::vector<float> extremes{FLT_MAX, -FLT_MAX, 1e-40f, -1e-40f, 3e38f, -3e38f};
  for (int round = 0; round < 300; ++round) {
    SampledSequence s;
    s.state.repetition_penalty = round % 3 == 0 ? 1.0f : rng.uniform(0.4f, 2.5f);
    s.state.presence_penalty = round % 4 == 0 ? 0.0f : rng.uniform(-2.0f, 2.0f);
    s.state.frequency_penalty = round % 5 == 0 ? 0.0f : rng.uniform(-2.0f, 2.0f);
    const auto id = static_cast<int32_t>(1 + rng.below(38));
    if (round % 2 == 0) s.bias_ids = {id}, s.biases = {rng.uniform(-5.0f, 5.0f)};
    if (rng.below(2) == 0) s.prompt = {id};
    s.outputs.assign(static_cast<size_t>(rng.below(5)), id);
    float logit = rng.uniform(-10.0f, 10.0f);
    if (round % 6 == 0) {
      logit = extremes[static_cast<size_t>(rng.below(6))];
      s.bias_ids = {id};
      s.biases = {extremes[static_cast<size_t>(rng.below(6))]};
      s.state.repetition_penalty = round % 12 == 0 ? 1e-30f : 1e30f;
      s.state.frequency_penalty = extremes[static_cast<size_t>(rng.below(6))];
    }
    std::vector<float> row = only(40, {});
    row[static_cast<size_t>(id)] = logit;
    const float bits = adjusted_reference(row, s, static_cast<int64_t>(s.outputs.size()))[static_cast<size_t>(id)];
    CHECK(std::isfinite(bits));
    for_each_level([&](cpu::CpuLevel level) { check_bits(LevelDevice(level), logit, id, s, bits); });
  }
}

}  // namespace
}  // namespace swiftkv::test
