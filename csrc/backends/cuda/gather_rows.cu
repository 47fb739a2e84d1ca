#include "backends/cuda/gather_rows.cuh"

#include "backends/cuda/launcher.h"

namespace swiftkv::cuda {

namespace {

template <class Word>
Status copy_words(const GatherRowsParams& p, const Context& c) {
  const int64_t words = p.dim * static_cast<int64_t>(sizeof(float)) / static_cast<int64_t>(sizeof(Word));
  const RowsPlan plan = plan_rows(words, 1);
  return launch("gather_rows", &gather_rows_kernel<Word>, grid_of(plan.blocks(p.rows)), dim3(plan.threads), 0, c.stream,
                p, words, plan.blocks_per_row);
}

}  // namespace

Status gather_rows(const GatherRowsParams& p, const Context& c) {
  const auto addresses = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.out);
  return p.dim % 4 == 0 && addresses % 16 == 0 ? copy_words<uint4>(p, c) : copy_words<uint32_t>(p, c);
}

}  // namespace swiftkv::cuda
