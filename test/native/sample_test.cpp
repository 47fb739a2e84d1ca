// sample: greedy ties, filters, masks, poisoned rows, the distribution, and independence of everything but the
// counters.
#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "compare.h"
#include "core/random.h"
#include "fixtures.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

SamplerSlot slot(float temperature, int32_t top_k = 0, float top_p = 1.0f, float min_p = 0.0f, uint64_t seed = 1,
                 uint32_t choice = 0) {
  return {.temperature = temperature, .top_p = top_p, .min_p = min_p, .top_k = top_k, .seed = seed, .choice = choice};
}

// One row of logits sampled at output positions 0 .. draws - 1.
std::vector<int32_t> draw(cpu::CpuLevel level, const std::vector<float>& logits, const SamplerSlot& sampler,
                          int64_t draws, const std::vector<uint32_t>* bitmask = nullptr) {
  const auto vocab = static_cast<int64_t>(logits.size());
  const int64_t words = (vocab + 31) / 32;
  std::vector<float> all;
  std::vector<uint32_t> masks;
  std::vector<int32_t> slots(static_cast<size_t>(draws), 0), positions, ids(static_cast<size_t>(draws), -2);
  for (int64_t i = 0; i < draws; ++i) {
    all.insert(all.end(), logits.begin(), logits.end());
    positions.push_back(static_cast<int32_t>(i));
    if (bitmask != nullptr) masks.insert(masks.end(), bitmask->begin(), bitmask->begin() + words);
  }
  const SampleParams p{draws,        vocab,
                       all.data(),   &sampler,
                       slots.data(), positions.data(),
                       nullptr,      bitmask == nullptr ? nullptr : masks.data(),
                       nullptr,      ids.data()};
  CHECK(LevelDevice(level, 2).run(OpKind::sample, &p).ok());
  return ids;
}

std::set<int32_t> support(const std::vector<int32_t>& ids) {
  return {ids.begin(), ids.end()};
}

TEST_CASE("sample: greedy takes the lowest id among equal maxima, at any width") {
  for_each_level([](cpu::CpuLevel level) {
    for (int64_t vocab : kWidths) {
      INFO("V ", vocab);
      Rng rng(1);
      std::vector<float> logits = random_values(rng, vocab);
      for (int64_t lowest : {int64_t{0}, vocab / 2, vocab - 1}) {
        std::vector<float> tied = logits;
        for (int64_t v = lowest; v < vocab; v += 7) tied[static_cast<size_t>(v)] = 5.0f;
        CHECK(draw(level, tied, slot(0.0f), 1)[0] == lowest);
      }
      std::vector<float> negative(static_cast<size_t>(vocab), -3e38f);
      CHECK(draw(level, negative, slot(0.0f), 1)[0] == 0);
    }
  });
}

TEST_CASE("sample: NaN or +inf anywhere gives -1, -inf is only a mask") {
  for_each_level([](cpu::CpuLevel level) {
    for (int64_t vocab : {int64_t{1}, int64_t{16}, int64_t{17}, int64_t{100}})
      for (float temperature : {0.0f, 1.0f})
        for (float bad : {NAN, -NAN, INFINITY})
          for (int64_t at : {int64_t{0}, vocab / 2, vocab - 1}) {
            std::vector<float> logits(static_cast<size_t>(vocab), 1.0f);
            logits[static_cast<size_t>(at)] = bad;
            CHECK(draw(level, logits, slot(temperature), 1)[0] == -1);
            CHECK(draw(level, logits, slot(temperature, 3, 0.9f), 1)[0] == -1);
          }
    std::vector<float> masked(40, -INFINITY);
    CHECK(draw(level, masked, slot(0.0f), 1)[0] == -1);
    CHECK(draw(level, masked, slot(1.0f, 5, 0.5f), 1)[0] == -1);
    masked[33] = -1e30f;
    CHECK(draw(level, masked, slot(0.0f), 1)[0] == 33);
    CHECK(support(draw(level, masked, slot(1.0f), 20)) == std::set<int32_t>{33});
  });
}

TEST_CASE("sample: the bitmask bounds every filter, and an empty mask gives -2") {
  for_each_level([](cpu::CpuLevel level) {
    std::vector<float> logits(70, 0.0f);
    logits[3] = 9.0f;
    std::vector<uint32_t> mask{0, 0x80000001u, 0x20u};  // 32, 63, 69
    const std::set<int32_t> allowed{32, 63, 69};
    CHECK(draw(level, logits, slot(0.0f), 1, &mask)[0] == 32);
    CHECK(support(draw(level, logits, slot(1.0f), 100, &mask)) == allowed);
    CHECK(support(draw(level, logits, slot(1.0f, 2), 100, &mask)) == std::set<int32_t>{32, 63});
    CHECK(support(draw(level, logits, slot(1.0f, 0, 0.99f), 100, &mask)) == allowed);
    std::vector<uint32_t> none{0, 0, 0};
    CHECK(draw(level, logits, slot(0.0f), 1, &none)[0] == kNothingAllowed);
    CHECK(draw(level, logits, slot(1.0f, 2, 0.5f), 1, &none)[0] == kNothingAllowed);
  });
}

TEST_CASE("sample: top-k, then top-p of what is left, then min-p") {
  for_each_level([](cpu::CpuLevel level) {
    // Probabilities 0.4, 0.3, 0.2, 0.1 in shuffled places.
    const std::vector<float> logits{std::log(0.2f), std::log(0.4f), std::log(0.1f), std::log(0.3f)};
    const auto drawn = [&](const SamplerSlot& s) { return support(draw(level, logits, s, 400)); };
    CHECK(drawn(slot(1.0f)) == std::set<int32_t>{0, 1, 2, 3});
    CHECK(drawn(slot(1.0f, 1)) == std::set<int32_t>{1});
    CHECK(drawn(slot(1.0f, 2)) == std::set<int32_t>{1, 3});
    CHECK(drawn(slot(1.0f, 100)) == std::set<int32_t>{0, 1, 2, 3});
    CHECK(drawn(slot(1.0f, 0, 0.399f)) == std::set<int32_t>{1});
    CHECK(drawn(slot(1.0f, 0, 0.401f)) == std::set<int32_t>{1, 3});
    CHECK(drawn(slot(1.0f, 0, 0.699f)) == std::set<int32_t>{1, 3});
    CHECK(drawn(slot(1.0f, 0, 0.701f)) == std::set<int32_t>{0, 1, 3});
    CHECK(drawn(slot(1.0f, 0, 1e-9f)) == std::set<int32_t>{1});
    // Of the best two, 0.4 is 57%: top-p 0.5 is reached by it alone after top-k 2, but not before.
    CHECK(drawn(slot(1.0f, 2, 0.5f)) == std::set<int32_t>{1});
    CHECK(drawn(slot(1.0f, 0, 0.5f)) == std::set<int32_t>{1, 3});
    CHECK(drawn(slot(1.0f, 0, 1.0f, 0.499f)) == std::set<int32_t>{0, 1, 3});
    CHECK(drawn(slot(1.0f, 0, 1.0f, 0.501f)) == std::set<int32_t>{1, 3});
    CHECK(drawn(slot(1.0f, 0, 1.0f, 0.8f)) == std::set<int32_t>{1});
    // Temperature comes first: at 0.5 the ratios are squared, 0.2 / 0.4 becomes a quarter.
    CHECK(drawn(slot(0.5f, 0, 1.0f, 0.45f)) == std::set<int32_t>{1, 3});
    CHECK(drawn(slot(1e-30f)) == std::set<int32_t>{1});
  });
}

TEST_CASE("sample: ties at the edge of top-k and top-p go to the lower ids") {
  for_each_level([](cpu::CpuLevel level) {
    std::vector<float> logits(40, 1.0f);
    logits[39] = 2.0f;
    CHECK(support(draw(level, logits, slot(1.0f, 3), 300)) == std::set<int32_t>{0, 1, 39});
    CHECK(support(draw(level, std::vector<float>(10, 0.0f), slot(1.0f, 0, 0.35f), 300)) ==
          std::set<int32_t>{0, 1, 2, 3});
  });
}

TEST_CASE("sample follows the distribution of the filtered probabilities [many draws]") {
  for_each_level([](cpu::CpuLevel level) {
    Rng rng(3);
    const std::vector<float> logits = random_values(rng, 24, 2.0f);
    for (const SamplerSlot& s :
         {slot(1.0f), slot(0.7f), slot(1.5f, 10), slot(1.0f, 0, 0.8f), slot(1.0f, 0, 1.0f, 0.2f)}) {
      const int64_t draws = 20000;
      std::vector<double> counts(24, 0.0), weights(24, 0.0);
      for (int32_t id : draw(level, logits, s, draws)) counts[static_cast<size_t>(id)] += 1.0;
      // Expected from what was kept: every id that can appear has at least a 0.1% share here, so 20,000 draws show it.
      double total = 0.0;
      for (size_t v = 0; v < 24; ++v)
        if (counts[v] > 0)
          total += weights[v] = std::exp(static_cast<double>(logits[v]) / static_cast<double>(s.temperature));
      double chi = 0.0;
      for (size_t v = 0; v < 24; ++v)
        if (counts[v] > 0) {
          const double expected = static_cast<double>(draws) * weights[v] / total;
          chi += (counts[v] - expected) * (counts[v] - expected) / expected;
        }
      CHECK(chi < 49.7);  // 23 degrees of freedom, one in a thousand
    }
  });
}

TEST_CASE("sample: every level draws the reference's tokens") {
  Rng rng(4);
  for (int64_t vocab : {int64_t{5}, int64_t{100}, int64_t{1000}, int64_t{5003}}) {
    const std::vector<float> logits = random_values(rng, vocab, 4.0f);
    for (const SamplerSlot& s : {slot(1.0f), slot(0.8f, 40), slot(1.2f, 0, 0.9f), slot(1.0f, 50, 0.95f, 0.05f)}) {
      INFO("V ", vocab, " top_k ", s.top_k, " top_p ", s.top_p);
      const std::vector<int32_t> expected = draw(cpu::CpuLevel::scalar, logits, s, 50);
      for_each_level([&](cpu::CpuLevel level) { CHECK(draw(level, logits, s, 50) == expected); });
    }
  }
}

TEST_CASE("sample: a row's token does not depend on chunks, threads or other samplers") {
  for_each_level([](cpu::CpuLevel level) {
    const int64_t rows = 23, vocab = 333;
    Rng rng(5);
    const std::vector<float> logits = random_values(rng, rows * vocab, 3.0f);
    std::vector<SamplerSlot> samplers;
    for (int i = 0; i < 6; ++i)
      samplers.push_back(slot(0.3f * static_cast<float>(i), i * 7 % 30, i % 2 == 0 ? 1.0f : 0.9f, 0.01f,
                              static_cast<uint64_t>(i), static_cast<uint32_t>(i)));
    std::vector<int32_t> slots, positions, ids(rows, -2);
    for (int64_t row = 0; row < rows; ++row) {
      slots.push_back(static_cast<int32_t>(rng.below(6)));
      positions.push_back(static_cast<int32_t>(rng.below(1000)));
    }
    const auto run = [&](const LevelDevice& device, int64_t first, int64_t count) {
      const SampleParams p{count,
                           vocab,
                           logits.data() + first * vocab,
                           samplers.data(),
                           slots.data() + first,
                           positions.data() + first,
                           nullptr,
                           nullptr,
                           nullptr,
                           ids.data() + first};
      CHECK(device.run(OpKind::sample, &p).ok());
    };
    run(LevelDevice(level), 0, rows);
    const std::vector<int32_t> whole = ids;
    ids.assign(rows, -2);
    for_each_chunking(level, rows, run, [&] {
      CHECK(ids == whole);
      ids.assign(rows, -2);
    });
  });
}

TEST_CASE("random numbers depend on seed, choice and position, and on each of them") {
  CHECK(sample_uniform(1, 2, 3) == sample_uniform(1, 2, 3));
  std::set<double> values;
  double sum = 0.0;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{2}, UINT64_MAX})
    for (uint32_t choice = 0; choice < 8; ++choice)
      for (uint32_t position = 0; position < 256; ++position) {
        const double u = sample_uniform(seed, choice, position);
        CHECK((u >= 0.0 && u < 1.0));
        values.insert(u);
        sum += u;
      }
  CHECK(values.size() == 4 * 8 * 256);
  CHECK(std::fabs(sum / (4 * 8 * 256) - 0.5) < 5.0 * std::sqrt(1.0 / 12.0 / (4 * 8 * 256)));
  // Fixed for ever: a release that changes them changes every seeded answer.
  CHECK(mix64(0x9e3779b97f4a7c15ull) == 0xe220a8397b1dcdafull);  // the published first output of splitmix64(0)
}

}  // namespace
}  // namespace swiftkv::test
