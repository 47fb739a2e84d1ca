// The grids of row ops and the memory of sample, as pure functions.
#include "backends/cuda/rows_plan.h"

#include <doctest/doctest.h>

#include "backends/cuda/sample_plan.h"
#include "generators.h"

namespace swiftkv::test {
namespace {

using cuda::DeviceLimits, cuda::plan_row_blocks, cuda::plan_rows, cuda::plan_sample, cuda::RowsPlan, cuda::SamplePlan;

TEST_CASE("row ops: blocks of whole warps reach every element, and no block of a row has nothing to do") {
  for (const int elements : {1, 8, 16})
    for (int64_t width : kWidths)
      for (const int64_t factor : {1, 7, 4096}) {
        const int64_t wide = width * factor;
        INFO("width ", wide, " elements ", elements);
        const RowsPlan plan = plan_rows(wide, elements);
        CHECK(plan.threads % cuda::kWarpThreads == 0);
        CHECK(plan.threads >= cuda::kWarpThreads);
        CHECK(plan.threads <= cuda::kRowThreads);
        const int64_t of_block = int64_t{plan.threads} * elements;
        CHECK(plan.blocks_per_row * of_block >= wide);
        CHECK((plan.blocks_per_row - 1) * of_block < wide);
        CHECK(plan.blocks(3) == 3 * int64_t{plan.blocks_per_row});
        CHECK(plan_row_blocks(wide, elements).blocks_per_row == 1);
      }
}

TEST_CASE("sample: scratch follows the rows up to a row for each multiprocessor") {
  const DeviceLimits limits{90, 132, 227 * 1024, 228 * 1024};
  for (const int64_t vocab : {1, 31, 32000, 128256}) {
    const SamplePlan few = plan_sample(5, vocab, limits), many = plan_sample(1000, vocab, limits);
    CHECK(few.wave == 5);
    CHECK(many.wave == 132);
    CHECK(plan_sample(132, vocab, limits).bytes() == many.bytes());
    // 12 bytes a token: a weight and an adjusted logit; and the list of what top-k leaves, 16 a token, fits the
    // weights.
    CHECK(few.bytes() >= static_cast<size_t>(5 * 12 * vocab));
    CHECK(few.bytes() <= static_cast<size_t>(5 * 12 * vocab) + size_t{5 * 2 * 255});
    for (const int64_t top_k : {int64_t{1}, vocab / 4, vocab})
      if (cuda::list_after_top_k(top_k, vocab)) CHECK(static_cast<size_t>(16 * top_k) <= few.row_weights);
  }
}

}  // namespace
}  // namespace swiftkv::test
