// Next-token choice: greedy, or temperature, top-k, top-p and min-p in that order, then one uniform number.
#include <algorithm>
#include <cmath>

#include "backends/cpu/sample_row.h"
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/scalar/worker_scratch.h"
#include "core/random.h"

namespace swiftkv::cpu::scalar {

namespace {

struct Row {
  const float* logits;
  const uint32_t* bitmask;  // or null
  int32_t vocab;

  // -inf is how a masked logit looks.
  bool allowed(int32_t id) const {
    return logits[id] != -INFINITY && (bitmask == nullptr || (bitmask[id / 32] >> (id % 32) & 1u) != 0);
  }
};

// Descending by logit, ties by lower id: a total order, so every filter keeps a prefix of it.
struct Better {
  const float* logits;
  bool operator()(int32_t a, int32_t b) const { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; }
};

// The best allowed id; kNoNumbers if the row holds NaN or +inf.
int32_t best_id(const Row& row) {
  int32_t best = kNothingAllowed;
  for (int32_t id = 0; id < row.vocab; ++id) {
    if (std::isnan(row.logits[id]) || row.logits[id] == INFINITY) return kNoNumbers;
    if (row.allowed(id) && (best < 0 || row.logits[id] > row.logits[best])) best = id;
  }
  return best;
}

// Unnormalised probability after temperature; 1 for the best.
double weight(const Row& row, int32_t id, int32_t best, float temperature) {
  return std::exp(static_cast<double>((row.logits[id] - row.logits[best]) / temperature));
}

// The last id of the order that top-k and top-p keep. `ids` has room for the vocabulary.
int32_t last_kept(const Row& row, const SamplerSlot& s, int32_t best, int32_t* ids) {
  int32_t count = 0;
  for (int32_t id = 0; id < row.vocab; ++id)
    if (row.allowed(id)) ids[count++] = id;
  const bool top_k = s.top_k > 0 && s.top_k < count;
  const int32_t kept = top_k ? s.top_k : count;
  std::partial_sort(ids, ids + kept, ids + count, Better{row.logits});
  if (s.top_p >= 1.0f) return ids[kept - 1];
  double total = 0.0;
  for (int32_t i = 0; i < kept; ++i) total += weight(row, ids[i], best, s.temperature);
  double mass = 0.0;
  for (int32_t i = 0; i < kept; ++i) {
    mass += weight(row, ids[i], best, s.temperature);
    if (mass >= static_cast<double>(s.top_p) * total) return ids[i];  // the first that reaches p stays
  }
  return ids[kept - 1];
}

int32_t choose(const Row& row, const SamplerSlot& s, int32_t position, int32_t* ids) {
  const int32_t best = best_id(row);
  if (best < 0 || s.temperature == 0.0f) return best;

  const bool cut = s.top_k > 0 || s.top_p < 1.0f;
  const int32_t last = cut ? last_kept(row, s, best, ids) : -1;
  const Better better{row.logits};
  const auto kept_weight = [&](int32_t id) {
    if (!row.allowed(id) || (cut && better(last, id))) return 0.0;
    const double w = weight(row, id, best, s.temperature);
    return w >= static_cast<double>(s.min_p) ? w : 0.0;  // relative to the most likely token, whose weight is 1
  };
  double total = 0.0;
  for (int32_t id = 0; id < row.vocab; ++id) total += kept_weight(id);
  const double target = sample_uniform(s.seed, s.choice, static_cast<uint32_t>(position)) * total;
  double mass = 0.0;
  int32_t chosen = best;
  for (int32_t id = 0; id < row.vocab; ++id) {  // in id order, whatever was sorted
    const double w = kept_weight(id);
    if (w == 0.0) continue;
    chosen = id;
    mass += w;
    if (mass > target) break;
  }
  return chosen;
}

}  // namespace

size_t sample_scratch(const SampleParams& p, int threads) {
  return worker_bytes(threads, static_cast<size_t>(2 * p.vocab));
}

Status sample(const SampleParams& p, const Context& c) {
  c.parallel_for(p.rows, [&](int64_t i, int worker) {
    float* room = worker_floats(c, worker, static_cast<size_t>(2 * p.vocab));
    auto* ids = reinterpret_cast<int32_t*>(room + p.vocab);
    p.ids[i] = sample_row(p, i, room, [&](const float* logits, const uint32_t* bitmask) {
      const Row row{logits, bitmask, static_cast<int32_t>(p.vocab)};
      return choose(row, p.samplers[p.slots[i]], p.output_positions[i], ids);
    });
  });
  count_drawn(p);
  return {};
}

}  // namespace swiftkv::cpu::scalar
