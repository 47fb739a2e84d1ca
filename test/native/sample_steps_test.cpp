// sample over the steps of several sequences: what it counts, and what slots know of each other and of their past.
#include <doctest/doctest.h>

#include <cmath>

#include "core_fake_backend.h"
#include "sampling.h"

namespace swiftkv::test {
namespace {

std::vector<int32_t> random_ids(Rng& rng, int64_t vocab, int64_t most) {
  std::vector<int32_t> ids(static_cast<size_t>(rng.below(most + 1)));
  // Half of them from a few low ids, so that some repeat.
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(rng.below(2) == 0 ? std::min<int64_t>(vocab, 6) : vocab));
  return ids;
}

template <class T>
T any_of(Rng& rng, std::initializer_list<T> values) {
  return values.begin()[rng.below(static_cast<int64_t>(values.size()))];
}

SampledSequence random_sequence(Rng& rng, int64_t vocab) {
  SampledSequence s;
  s.state = {.temperature = any_of(rng, {0.0f, 0.7f, 1.3f}),
             .top_p = any_of(rng, {1.0f, 0.8f}),
             .min_p = any_of(rng, {0.0f, 0.05f}),
             .top_k = any_of(rng, {0, 1, 3, 40}),
             .seed = rng.next(),
             .choice = static_cast<uint32_t>(rng.below(3)),
             .repetition_penalty = any_of(rng, {1.0f, 1.3f, 0.6f}),
             .presence_penalty = any_of(rng, {0.0f, 0.7f, -0.4f}),
             .frequency_penalty = any_of(rng, {0.0f, 0.3f, -0.2f})};
  s.bias_ids = random_ids(rng, vocab, 5);
  for (size_t i = 0; i < s.bias_ids.size(); ++i)
    s.biases.push_back(rng.below(4) == 0 ? -INFINITY : rng.uniform(-3.0f, 3.0f));
  s.end_ids = random_ids(rng, vocab, 3);
  s.prompt = random_ids(rng, vocab, 20);
  s.outputs = random_ids(rng, vocab, 10);
  s.state.min_tokens = static_cast<int32_t>(s.outputs.size()) + any_of(rng, {-1, 0, 1, 2});
  if (s.state.min_tokens < 0) s.state.min_tokens = 0;
  return s;
}

std::vector<float> random_row(Rng& rng, int64_t vocab) {
  std::vector<float> row = random_values(rng, vocab, 4.0f);
  const int64_t kind = rng.below(10);
  for (float& x : row) {
    if (kind < 3) x = std::round(x);  // ties
    if (kind == 3 && rng.below(3) == 0) x = -INFINITY;
    if (kind == 4 && rng.below(4) == 0) x = -INFINITY;
  }
  if (kind == 4) row[static_cast<size_t>(rng.below(vocab))] = any_of(rng, {NAN, INFINITY, -INFINITY});
  return row;
}

// A step of all sequences, and rows of some that are forced, in any order.
SampleRows random_step(Rng& rng, int64_t vocab, const std::vector<SampledSequence>& sequences) {
  SampleRows rows(vocab);
  const int64_t masks = 3;
  for (int64_t i = 0; i < masks * rows.words(); ++i)
    rows.masks.push_back(static_cast<uint32_t>(i < rows.words() ? rng.next() & rng.next() : rng.next() | rng.next()));
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto slot = static_cast<int32_t>(i);
    const auto position = static_cast<int64_t>(sequences[i].outputs.size());
    const auto mask = [&] { return static_cast<int32_t>(rng.below(2 * masks + 1) % (masks + 1) - 1); };
    const auto add_forced = [&] {
      const auto id = static_cast<int32_t>(rng.below(vocab));
      rows.add(random_row(rng, vocab), slot, rng.below(9), id, mask());
    };
    if (rng.below(3) == 0) add_forced();
    rows.add(random_row(rng, vocab), slot, position, -1, mask());
    if (rng.below(3) == 0) add_forced();
  }
  return rows;
}

void note_drawn(const SampleRows& rows, const std::vector<int32_t>& ids, std::vector<SampledSequence>& sequences) {
  for (size_t i = 0; i < ids.size(); ++i)
    if (rows.forced[i] < 0 && ids[i] >= 0) sequences[static_cast<size_t>(rows.slots[i])].outputs.push_back(ids[i]);
}

TEST_CASE("sample: adjusted rows of many sequences over several steps give the reference's ids and counts") {
  for (int64_t vocab : kVocabularies) {
    Rng rng(static_cast<uint64_t>(vocab));
    for (int round = 0; round < 3; ++round) {
      std::vector<SampledSequence> sequences;
      for (int i = 0; i < 16; ++i) sequences.push_back(random_sequence(rng, vocab));
      std::vector<std::shared_ptr<SamplerTable>> tables;
      for_each_level([&](cpu::CpuLevel) { tables.push_back(table_of(vocab, sequences)); });
      for (int step = 0; step < 4; ++step) {
        INFO("V ", vocab, " round ", round, " step ", step);
        const SampleRows rows = random_step(rng, vocab, sequences);
        const std::vector<int32_t> expected = rows.expected(sequences);
        note_drawn(rows, expected, sequences);
        size_t table = 0;
        for_each_level([&](cpu::CpuLevel level) {
          const SamplerTable& own = *tables[table++];
          CHECK(rows.run(LevelDevice(level, 3), own) == expected);
          for (int32_t slot = 0; slot < own.capacity(); ++slot)
            CHECK(counts_difference(own, slot, sequences[static_cast<size_t>(slot)]) == "");
        });
      }
    }
  }
}

TEST_CASE("sample: every token of the vocabulary can be counted, from the prompt, from outputs, and again") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (int64_t vocab : {int64_t{1}, int64_t{31}, int64_t{33}, int64_t{100}}) {
      for (bool in_prompt : {false, true}) {
        SampledSequence s;
        s.state.frequency_penalty = 1.0f;
        if (in_prompt)
          for (int32_t id = 0; id < vocab; ++id) s.prompt.push_back(id);
        const auto table = table_of(vocab, {s});
        for (int64_t i = 0; i < 2 * vocab; ++i) {
          SampleRows rows(vocab);
          rows.add(std::vector<float>(static_cast<size_t>(vocab), 0.0f), 0, i);
          CHECK(rows.run(device, *table)[0] == i % vocab);
          s.outputs.push_back(static_cast<int32_t>(i % vocab));
        }
        CHECK(counts_difference(*table, 0, s) == "");
      }
    }
  });
}

TEST_CASE("sample: a slot knows nothing of the sequence before, whose lists were longer or shorter") {
  for_each_level([](cpu::CpuLevel level) {
    const LevelDevice device(level);
    for (int64_t vocab : {int64_t{1}, int64_t{33}, int64_t{1000}}) {
      Rng rng(7);
      const auto table = table_of(vocab, {SampledSequence{}, SampledSequence{}});
      for (int round = 0; round < 40; ++round) {
        SampledSequence s = round % 8 == 7 ? SampledSequence{} : random_sequence(rng, vocab);
        if (round % 5 == 0) {
          const std::vector<int32_t> many = random_ids(rng, vocab, 300);
          s.bias_ids = s.prompt = s.outputs = s.end_ids = many;
          s.biases.assign(many.size(), 0.5f);
        }
        table->set(1, s.state, s.lists());
        std::vector<SampledSequence> sequences{SampledSequence{}, s};
        for (int step = 0; step < 2; ++step) {
          INFO("V ", vocab, " sequence ", round, " step ", step);
          const SampleRows rows = random_step(rng, vocab, sequences);
          const std::vector<int32_t> ids = rows.run(device, *table);
          CHECK(ids == rows.expected(sequences));
          note_drawn(rows, ids, sequences);
          CHECK(counts_difference(*table, 1, sequences[1]) == "");
        }
      }
    }
  });
}

TEST_CASE("sample: sequences give the same tokens together, alone and in any chunks") {
  for_each_level([](cpu::CpuLevel level) {
    Rng rng(8);
    const int64_t vocab = 333;
    std::vector<SampledSequence> sequences;
    for (int i = 0; i < 9; ++i) sequences.push_back(random_sequence(rng, vocab));
    const auto together = table_of(vocab, sequences);
    const std::vector<std::shared_ptr<SamplerTable>> apart{table_of(vocab, sequences), table_of(vocab, sequences)};
    for (int step = 0; step < 4; ++step) {
      const SampleRows rows = random_step(rng, vocab, sequences);
      const std::vector<int32_t> whole = rows.run(LevelDevice(level, 3), *together);
      note_drawn(rows, whole, sequences);
      for (size_t k = 0; k < apart.size(); ++k) {
        const auto chunk = static_cast<int64_t>(k == 0 ? 1 : 4);
        std::vector<int32_t> ids;
        for (int64_t first = 0; first < static_cast<int64_t>(rows.count()); first += chunk) {
          const int64_t count = std::min(chunk, static_cast<int64_t>(rows.count()) - first);
          const std::vector<int32_t> some = rows.run(LevelDevice(level, 2), *apart[k], first, count);
          ids.insert(ids.end(), some.begin(), some.end());
        }
        CHECK(ids == whole);
        for (int32_t slot = 0; slot < 9; ++slot)
          CHECK(counts_difference(*apart[k], slot, sequences[static_cast<size_t>(slot)]) == "");
      }
    }
  });
}

TEST_CASE("sampler table: a refused sampler leaves the slot as it was, one without memory leaves it greedy") {
  const auto device = open_fake();
  const auto table = SamplerTable::create(device, 2, 33);
  SampledSequence s;
  s.state.temperature = 0.5f;
  s.state.presence_penalty = 1.0f;
  s.prompt = {1, 2};
  s.outputs = {2, 32};
  table->set(0, s.state, s.lists());
  const auto refused = [&](auto&& change) {
    SampledSequence wrong = s;
    wrong.outputs = {9};
    change(wrong);
    CHECK_THROWS_AS(table->set(0, wrong.state, wrong.lists()), Error);
    CHECK(counts_difference(*table, 0, s) == "");
    CHECK(table->view().slots[0].temperature == 0.5f);
  };
  for (int32_t id : {-1, 33, INT32_MIN, INT32_MAX}) {
    refused([&](SampledSequence& w) { w.prompt = {0, id}; });
    refused([&](SampledSequence& w) { w.outputs = {id}; });
    refused([&](SampledSequence& w) { w.end_ids = {id}; });
    refused([&](SampledSequence& w) { w.bias_ids = {id}, w.biases = {1.0f}; });
  }
  refused([](SampledSequence& w) { w.bias_ids = {1}; });
  refused([](SampledSequence& w) { w.bias_ids = {1}, w.biases = {NAN}; });
  refused([](SampledSequence& w) { w.bias_ids = {1}, w.biases = {INFINITY}; });
  refused([](SampledSequence& w) { w.state.repetition_penalty = 0.0f; });
  refused([](SampledSequence& w) { w.state.repetition_penalty = NAN; });
  refused([](SampledSequence& w) { w.state.presence_penalty = INFINITY; });
  refused([](SampledSequence& w) { w.state.frequency_penalty = NAN; });
  refused([](SampledSequence& w) { w.state.min_tokens = -1; });

  s.bias_ids = s.end_ids = std::vector<int32_t>(100, 3);
  s.biases.assign(100, 1.0f);
  for (int64_t which : {0, 1}) {  // its lists, its counts
    FakeDevice& memory = fake(*device);
    memory.fail_allocation = static_cast<int64_t>(memory.allocations) + which;
    CHECK_THROWS_AS(table->set(1, s.state, s.lists()), Error);
    const SamplerSlot& slot = table->view().slots[1];
    CHECK((slot.temperature == 0.0f && slot.counts == nullptr && slot.num_biases == 0 && slot.num_end_ids == 0));
  }
  table->set(1, s.state, s.lists());
  CHECK(counts_difference(*table, 1, s) == "");
  CHECK(table->view().slots[1].biases[99] == 1.0f);
  CHECK(counts_difference(*table, 0, SampledSequence{s.state, {}, {}, {}, {1, 2}, {2, 32}}) == "");
}

}  // namespace
}  // namespace swiftkv::test
