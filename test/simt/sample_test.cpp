// sample and logprobs under every schedule; what they answer is tested by test/native (level_device.cpp).
#include <doctest/doctest.h>

#include "compare.h"
#include "generators.h"
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

}  // namespace
}  // namespace swiftkv::test
