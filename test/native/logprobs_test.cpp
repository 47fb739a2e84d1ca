// logprobs: against double, ranks and ties, masked and poisoned rows, rows that are picked.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compare.h"
#include "fixtures.h"
#include "row_invariance.h"

namespace swiftkv::test {
namespace {

struct Result {
  Result(int64_t rows, int32_t top_k)
      : chosen(static_cast<size_t>(rows), NAN),
        top(static_cast<size_t>(rows * top_k), NAN),
        rank(static_cast<size_t>(rows), -1),
        ids(static_cast<size_t>(rows * top_k), -1) {}
  std::vector<float> chosen, top;
  std::vector<int32_t> rank, ids;
};

LogprobsParams params(const std::vector<float>& logits, int64_t vocab, int32_t top_k, const std::vector<int32_t>& ids,
                      Result& out, int64_t first, int64_t rows) {
  return {rows,
          vocab,
          top_k,
          nullptr,
          logits.data() + first * vocab,
          ids.data() + first,
          out.chosen.data() + first,
          out.rank.data() + first,
          top_k == 0 ? nullptr : out.ids.data() + first * top_k,
          top_k == 0 ? nullptr : out.top.data() + first * top_k};
}

TEST_CASE("logprobs: chosen, rank and top k equal a sort in double, ties by lower id") {
  for_each_level([](cpu::CpuLevel level) {
    for (int64_t vocab : kWidths)
      for (int32_t wanted : {0, 1, 5, 20, 100000}) {
        const auto top_k = static_cast<int32_t>(std::min<int64_t>(wanted, vocab));
        const int64_t rows = 11;
        INFO("V ", vocab, " top_k ", top_k);
        Rng rng(1);
        std::vector<float> logits = random_values(rng, rows * vocab, 10.0f);
        for (float& x : logits)
          if (rng.below(4) == 0) x = std::round(x);  // ties
        std::vector<int32_t> ids;
        for (int64_t row = 0; row < rows; ++row) ids.push_back(static_cast<int32_t>(rng.below(vocab)));
        Result out(rows, top_k);
        const LogprobsParams p = params(logits, vocab, top_k, ids, out, 0, rows);
        CHECK(LevelDevice(level, 2).run(OpKind::logprobs, &p).ok());

        Result expected(rows, top_k);
        for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
          const float* x = logits.data() + static_cast<int64_t>(row) * vocab;
          double sum = 0.0;
          for (int64_t v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(x[v]));
          const double log_sum = std::log(sum);
          expected.chosen[row] = static_cast<float>(static_cast<double>(x[ids[row]]) - log_sum);
          expected.rank[row] =
              1 + static_cast<int32_t>(std::count_if(x, x + vocab, [&](float y) { return y > x[ids[row]]; }));
          std::vector<int32_t> order(static_cast<size_t>(vocab));
          std::iota(order.begin(), order.end(), 0);
          std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return x[a] > x[b]; });
          for (size_t i = 0; i < static_cast<size_t>(top_k); ++i) {
            expected.ids[row * static_cast<size_t>(top_k) + i] = order[i];
            expected.top[row * static_cast<size_t>(top_k) + i] =
                static_cast<float>(static_cast<double>(x[order[i]]) - log_sum);
          }
        }
        // log_sum is below 10 + log V = 17: three roundings of it, and exp's own error.
        CHECK(difference(out.chosen, expected.chosen, 17.0 * 4.0 * kUnit, 2.0 * kUnit) == "");
        CHECK(difference(out.top, expected.top, 17.0 * 4.0 * kUnit, 2.0 * kUnit) == "");
        CHECK(bit_difference(out.rank, expected.rank) == "");
        CHECK(bit_difference(out.ids, expected.ids) == "");

        const Result whole = out;
        out = Result(rows, top_k);
        for_each_chunking(
            level, rows,
            [&](const LevelDevice& device, int64_t first, int64_t count) {
              const LogprobsParams chunk = params(logits, vocab, top_k, ids, out, first, count);
              CHECK(device.run(OpKind::logprobs, &chunk).ok());
            },
            [&] {
              CHECK(bit_difference(out.chosen, whole.chosen) == "");
              CHECK(bit_difference(out.top, whole.top) == "");
              CHECK(bit_difference(out.ids, whole.ids) == "");
              out = Result(rows, top_k);
            });
      }
  });
}

TEST_CASE("logprobs: huge logits do not overflow and -inf means impossible") {
  for_each_level([](cpu::CpuLevel level) {
    const std::vector<float> logits{3e38f, -INFINITY, -3e38f, 0.0f};
    const std::vector<int32_t> ids{1};
    Result out(1, 4);
    const LogprobsParams p = params(logits, 4, 4, ids, out, 0, 1);
    CHECK(LevelDevice(level).run(OpKind::logprobs, &p).ok());
    CHECK(out.chosen[0] == -INFINITY);
    CHECK(out.rank[0] == 4);
    CHECK(out.ids == std::vector<int32_t>{0, 3, 2, 1});
    CHECK(out.top[0] == 0.0f);
    CHECK(out.top[3] == -INFINITY);
  });
}

TEST_CASE("logprobs: a row without a token, or with NaN, harms no other row and stays in bounds") {
  for_each_level([](cpu::CpuLevel level) {
    const int64_t vocab = 37;
    Rng rng(2);
    std::vector<float> logits = random_values(rng, 3 * vocab, 5.0f);
    const std::vector<float> clean = logits;
    for (int64_t v = 0; v < vocab; v += 3) logits[static_cast<size_t>(vocab + v)] = NAN;
    const std::vector<int32_t> ids{4, -1, 6}, clean_ids{4, 5, 6};
    Result out(3, 8), expected(3, 8);
    const LogprobsParams p = params(logits, vocab, 8, ids, out, 0, 3);
    const LogprobsParams q = params(clean, vocab, 8, clean_ids, expected, 0, 3);
    const LevelDevice device(level);
    CHECK(device.run(OpKind::logprobs, &p).ok());
    CHECK(device.run(OpKind::logprobs, &q).ok());
    CHECK(std::isnan(out.chosen[1]));
    for (size_t row : {size_t{0}, size_t{2}}) {
      CHECK(out.chosen[row] == expected.chosen[row]);
      CHECK(out.rank[row] == expected.rank[row]);
      for (size_t i = row * 8; i < row * 8 + 8; ++i) CHECK(out.ids[i] == expected.ids[i]);
    }
    for (int32_t id : out.ids) CHECK((id >= 0 && id < vocab));
  });
}

TEST_CASE("logprobs: rows that are picked, none or one or some twice, are those of the whole to the bit") {
  for_each_level([](cpu::CpuLevel level) {
    for (int64_t vocab : {int64_t{1}, int64_t{17}, int64_t{1000}})
      for (int32_t top_k : {0, 1, static_cast<int32_t>(std::min<int64_t>(vocab, 20))}) {
        const int64_t sources = 9;
        Rng rng(3);
        const std::vector<float> logits = random_values(rng, sources * vocab, 10.0f);
        std::vector<int32_t> ids;
        for (int64_t row = 0; row < sources; ++row) ids.push_back(static_cast<int32_t>(rng.below(vocab)));
        ids[4] = -1;  // a row without a token
        Result whole(sources, top_k);
        const LogprobsParams all = params(logits, vocab, top_k, ids, whole, 0, sources);
        CHECK(LevelDevice(level, 2).run(OpKind::logprobs, &all).ok());

        std::vector<std::vector<int32_t>> picks{{}, {0}, {8}, {4, 4, 4}, {8, 7, 6, 5, 4, 3, 2, 1, 0}};
        for (int64_t count : {3, 16, 40}) {
          picks.emplace_back();
          for (int64_t i = 0; i < count; ++i) picks.back().push_back(static_cast<int32_t>(rng.below(sources)));
        }
        for (const std::vector<int32_t>& index : picks) {
          const auto rows = static_cast<int64_t>(index.size());
          INFO("V ", vocab, " top_k ", top_k, " rows ", rows);
          Result out(rows, top_k), expected(rows, top_k);
          for (size_t i = 0; i < index.size(); ++i) {
            const auto source = static_cast<size_t>(index[i]);
            expected.chosen[i] = whole.chosen[source];
            expected.rank[i] = whole.rank[source];
            for (size_t k = 0; k < static_cast<size_t>(top_k); ++k) {
              expected.ids[i * static_cast<size_t>(top_k) + k] = whole.ids[source * static_cast<size_t>(top_k) + k];
              expected.top[i * static_cast<size_t>(top_k) + k] = whole.top[source * static_cast<size_t>(top_k) + k];
            }
          }
          const auto run = [&](const LevelDevice& device, int64_t first, int64_t count) {
            LogprobsParams p = params(logits, vocab, top_k, ids, out, first, count);
            p.index = index.data() + first;
            p.logits = logits.data();
            p.ids = ids.data();
            CHECK(device.run(OpKind::logprobs, &p).ok());
          };
          const auto compare = [&] {
            CHECK(bit_difference(out.chosen, expected.chosen) == "");
            CHECK(bit_difference(out.rank, expected.rank) == "");
            CHECK(bit_difference(out.ids, expected.ids) == "");
            CHECK(bit_difference(out.top, expected.top) == "");
            out = Result(rows, top_k);
          };
          run(LevelDevice(level, 2), 0, rows);
          compare();
          for_each_chunking(level, rows, run, compare);
        }
      }
  });
}

}  // namespace
}  // namespace swiftkv::test
