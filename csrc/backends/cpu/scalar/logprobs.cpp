// Log-softmax of each row, reduced to the chosen token, its rank and the top k.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::scalar {

namespace {

// Descending by logit, ties by lower id; NaN counts as -inf, so that the order stays an order.
struct Better {
  const float* logits;

  float key(int32_t id) const { return std::isnan(logits[id]) ? -INFINITY : logits[id]; }
  bool operator()(int32_t a, int32_t b) const {
    const float x = key(a), y = key(b);
    return x != y ? x > y : a < b;
  }
};

// The k best ids in order. The output is a heap whose front is the worst of the best so far.
void top_ids(const float* logits, int64_t vocab, int32_t k, int32_t* out) {
  const Better better{logits};
  for (int32_t id = 0; id < vocab; ++id) {
    if (id < k) {
      out[id] = id;
      std::push_heap(out, out + id + 1, better);
    } else if (better(id, out[0])) {
      std::pop_heap(out, out + k, better);
      out[k - 1] = id;
      std::push_heap(out, out + k, better);
    }
  }
  std::sort_heap(out, out + k, better);
}

}  // namespace

Status logprobs(const LogprobsParams& p, const Context& c) {
  c.parallel_for(p.rows, [&](int64_t row, int) {
    const int64_t source = p.index == nullptr ? row : p.index[row];
    const float* logits = p.logits + source * p.vocab;
    float max = -INFINITY;
    for (int64_t v = 0; v < p.vocab; ++v) max = std::max(max, logits[v]);
    double sum = 0.0;
    for (int64_t v = 0; v < p.vocab; ++v) sum += static_cast<double>(std::exp(logits[v] - max));
    const float log_sum = max + static_cast<float>(std::log(sum));

    const int32_t id = p.ids[source];
    if (id < 0 || id >= p.vocab) {  // the sampler's -1: the row had no token to give
      p.chosen[row] = std::numeric_limits<float>::quiet_NaN();
      p.rank[row] = 0;
    } else {
      int32_t greater = 0;
      for (int64_t v = 0; v < p.vocab; ++v) greater += logits[v] > logits[id];
      p.chosen[row] = logits[id] - log_sum;
      p.rank[row] = 1 + greater;
    }
    if (p.top_k <= 0) return;
    int32_t* best = p.top_ids + row * p.top_k;
    top_ids(logits, p.vocab, p.top_k, best);
    for (int32_t i = 0; i < p.top_k; ++i) p.top_logprobs[row * p.top_k + i] = logits[best[i]] - log_sum;
  });
  return {};
}

}  // namespace swiftkv::cpu::scalar
