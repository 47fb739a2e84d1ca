// Log-softmax of each row, reduced to the chosen token, its rank and the top k.
#include <cmath>

#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/ops.h"

namespace swiftkv::cpu::avx512 {

namespace {

constexpr float kInfinity = __builtin_inff();

float row_max(const float* x, int64_t n) {
  const __m512 nothing = _mm512_set1_ps(-kInfinity);
  __m512 most = nothing;
  for (int64_t i = 0; i < n; i += 16)  // max returns its second operand when the first is NaN
    most = _mm512_max_ps(_mm512_mask_loadu_ps(nothing, first_lanes(n - i), x + i), most);
  return max_lanes(most);
}

// Lanes are summed in f32 over at most this many vectors, then in double.
constexpr int64_t kSumVectors = 32;

double sum_exp(const float* x, int64_t n, float max) {
  const __m512 base = _mm512_set1_ps(max);
  double total = 0.0;
  for (int64_t i = 0; i < n;) {
    const int64_t end = i + 16 * kSumVectors < n ? i + 16 * kSumVectors : n;
    __m512 sum = _mm512_setzero_ps();
    for (; i + 16 <= end; i += 16) sum = _mm512_add_ps(sum, exp_lanes(_mm512_sub_ps(_mm512_loadu_ps(x + i), base)));
    if (i < end) {
      const __mmask16 m = first_lanes(end - i);
      const __m512 e = exp_lanes(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), base));
      sum = _mm512_mask_add_ps(sum, m, sum, e);
      i = end;
    }
    total += static_cast<double>(sum_lanes(sum));
  }
  return total;
}

int32_t count_greater(const float* x, int64_t n, float than) {
  const __m512 limit = _mm512_set1_ps(than);
  int32_t count = 0;
  for (int64_t i = 0; i < n; i += 16)
    count += __builtin_popcount(_mm512_mask_cmp_ps_mask(
        first_lanes(n - i), _mm512_maskz_loadu_ps(first_lanes(n - i), x + i), limit, _CMP_GT_OQ));
  return count;
}

// The k best so far, as a heap with the worst in front: descending by logit, ties by lower id. It lives in the outputs.
class TopHeap {
 public:
  TopHeap(int32_t* ids, float* logits) : ids_(ids), logits_(logits) {}

  float worst() const { return logits_[0]; }

  void add(int32_t id, float logit) {
    int32_t at = size_++;
    for (int32_t parent; at > 0 && worse(id, logit, parent = (at - 1) / 2); at = parent) move(at, parent);
    put(at, id, logit);
  }

  void replace_worst(int32_t id, float logit) { sink(id, logit); }

  // Best first. The worst leaves the heap for the place behind it, again and again.
  void sort() {
    while (size_ > 1) {
      const int32_t last = --size_, id = ids_[last];
      const float logit = logits_[last];
      move(last, 0);
      sink(id, logit);
    }
  }

 private:
  bool worse(int32_t id, float logit, int32_t than) const {
    return logit != logits_[than] ? logit < logits_[than] : id > ids_[than];
  }

  void put(int32_t at, int32_t id, float logit) {
    ids_[at] = id;
    logits_[at] = logit;
  }

  void move(int32_t to, int32_t from) { put(to, ids_[from], logits_[from]); }

  void sink(int32_t id, float logit) {
    int32_t at = 0;
    for (int32_t child; (child = 2 * at + 1) < size_; at = child) {
      if (child + 1 < size_ && worse(ids_[child + 1], logits_[child + 1], child)) ++child;
      if (worse(id, logit, child)) break;
      move(at, child);
    }
    put(at, id, logit);
  }

  int32_t size_ = 0;
  int32_t* ids_;
  float* logits_;
};

// NaN counts as -inf, so that the order stays an order.
float rankable(float x) {
  return x != x ? -kInfinity : x;
}

void top_rows(const float* x, int64_t n, int32_t k, int32_t* ids, float* logits) {
  TopHeap heap(ids, logits);
  for (int32_t id = 0; id < k; ++id) heap.add(id, rankable(x[id]));
  // Later ids enter only when strictly better than the worst: an equal one loses by its id.
  for (int64_t i = k; i < n; i += 16) {
    const __mmask16 m = first_lanes(n - i);
    const __m512 v = _mm512_maskz_loadu_ps(m, x + i);
    uint32_t better = _mm512_mask_cmp_ps_mask(m, v, _mm512_set1_ps(heap.worst()), _CMP_GT_OQ);
    for (; better != 0; better &= better - 1) {
      const int64_t id = i + __builtin_ctz(better);
      if (x[id] > heap.worst()) heap.replace_worst(static_cast<int32_t>(id), x[id]);
    }
  }
  heap.sort();
}

void row_logprobs(const LogprobsParams& p, int64_t row) {
  const int64_t source = p.index == nullptr ? row : p.index[row];
  const float* x = p.logits + source * p.vocab;
  const float max = row_max(x, p.vocab);
  const float log_sum = max + static_cast<float>(log(sum_exp(x, p.vocab, max)));
  const int32_t id = p.ids[source];
  if (id < 0 || id >= p.vocab) {  // the sampler's -1: the row had no token to give
    p.chosen[row] = __builtin_nanf("");
    p.rank[row] = 0;
  } else {
    p.chosen[row] = x[id] - log_sum;
    p.rank[row] = 1 + count_greater(x, p.vocab, x[id]);
  }
  if (p.top_k <= 0) return;
  int32_t* ids = p.top_ids + row * p.top_k;
  float* top = p.top_logprobs + row * p.top_k;
  top_rows(x, p.vocab, p.top_k, ids, top);
  for (int32_t i = 0; i < p.top_k; ++i) top[i] = x[ids[i]] - log_sum;
}

}  // namespace

Status logprobs(const LogprobsParams& p, const Context& c) {
  c.parallel_for(p.rows, [&](int64_t row, int) { row_logprobs(p, row); });
  return {};
}

}  // namespace swiftkv::cpu::avx512
