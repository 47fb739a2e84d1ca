// What `sample` does around the choice itself, the same for every ISA level to the bit: a row as its sampler sees it,
// forced ids, answers where there is no token, and counting.
#pragma once

#include "backends/cpu/kernels.h"

namespace swiftkv::cpu {

static inline bool is_below_infinity(float x) {
  return x < __builtin_inff();
}

static inline bool is_finite(float x) {
  return is_below_infinity(x) && x > -__builtin_inff();
}

// A finite logit stays one, however large a penalty is; others stay what they are: NaN and +inf fail the row.
static inline float adjusted(float logit, float changed) {
  constexpr float kMost = __FLT_MAX__;
  if (!is_finite(logit)) return logit;
  return changed > kMost ? kMost : changed < -kMost ? -kMost : changed;
}

static inline void forbid(float* logit) {
  if (is_below_infinity(*logit)) *logit = -__builtin_inff();
}

// The logits that row i is drawn from: its own, or a copy in `room` [V] where its sampler changes some. The bitmask is
// left to the caller: it forbids, before or after.
static inline const float* adjusted_logits(const SampleParams& p, int64_t i, float* room) {
  const float* own = p.logits + i * p.vocab;
  const SamplerSlot& s = p.samplers[p.slots[i]];
  const bool early = s.num_end_ids > 0 && p.output_positions[i] < s.min_tokens;
  if (s.num_biases == 0 && !early && s.counts == nullptr) return own;
  __builtin_memcpy(room, own, static_cast<size_t>(p.vocab) * sizeof(float));
  for (int32_t k = 0; k < s.num_biases; ++k) {
    float* x = room + s.bias_ids[k];
    if (is_finite(s.biases[k])) {
      *x = adjusted(*x, *x + s.biases[k]);
    } else {
      forbid(x);
    }
  }
  if (early) {
    for (int32_t k = 0; k < s.num_end_ids; ++k) forbid(room + s.end_ids[k]);
  }
  if (s.counts == nullptr) return room;
  for (int32_t k = 1; k <= s.seen[0]; ++k) {
    const int32_t id = s.seen[k];
    float* x = room + id;
    *x = adjusted(*x, *x > 0.0f ? *x / s.repetition_penalty : *x * s.repetition_penalty);
    const uint32_t outputs = s.counts[id] & ~kInPrompt;
    if (outputs > 0) {
      *x = adjusted(*x, *x - (s.frequency_penalty * static_cast<float>(outputs) + s.presence_penalty));
    }
  }
  return room;
}

// Whether a row gives probabilities: no NaN, no +inf, and something besides -inf.
static inline bool has_numbers(const float* logits, int64_t vocab) {
  uint32_t bad = 0, some = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    bad |= static_cast<uint32_t>(!is_below_infinity(logits[v]));
    some |= static_cast<uint32_t>(logits[v] > -__builtin_inff());
  }
  return bad == 0 && some != 0;
}

// The id of row i. draw(logits, bitmask) chooses among what is allowed, or says kNoNumbers or kNothingAllowed.
template <class Draw>
static inline int32_t sample_row(const SampleParams& p, int64_t i, float* room, Draw&& draw) {
  const float* own = p.logits + i * p.vocab;
  const int32_t forced = p.forced_ids == nullptr ? -1 : p.forced_ids[i];
  if (forced >= 0) return has_numbers(own, p.vocab) ? forced : kNoNumbers;
  const int64_t mask_row = p.mask_rows == nullptr ? i : p.mask_rows[i];
  const uint32_t* bitmask = nullptr;
  if (p.bitmask != nullptr && mask_row >= 0) bitmask = p.bitmask + mask_row * ((p.vocab + 31) / 32);
  const auto id = static_cast<int32_t>(draw(adjusted_logits(p, i, room), bitmask));
  // A row of -inf alone had nothing to allow.
  return id == kNothingAllowed && !has_numbers(own, p.vocab) ? kNoNumbers : id;
}

// Adds the tokens that were drawn to what their slots have seen. After all rows, in their order: rows that share a slot
// are drawn from the counts before the step.
static inline void count_drawn(const SampleParams& p) {
  for (int64_t i = 0; i < p.rows; ++i) {
    const SamplerSlot& s = p.samplers[p.slots[i]];
    const int32_t id = p.ids[i];
    if (s.counts == nullptr || id < 0 || (p.forced_ids != nullptr && p.forced_ids[i] >= 0)) continue;
    if (s.counts[id]++ == 0) s.seen[++s.seen[0]] = id;
  }
}

}  // namespace swiftkv::cpu
