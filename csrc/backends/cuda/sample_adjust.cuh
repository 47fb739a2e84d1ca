// A row as its sampler sees it: biases, end ids that come too early, penalties. The bits are the cpu backend's
// (cpu/sample_row.h): products are taken in double, where they are exact, and rounded, so that no compiler makes
// multiply-adds of them.
#pragma once

#include <cfloat>

#include "backends/cuda/vocab_block.cuh"
#include "core/ops.h"

namespace swiftkv::cuda {

SWIFTKV_DEVICE bool is_below_infinity(float x) {
  return x < __uint_as_float(0x7f800000u);
}
SWIFTKV_DEVICE float minus_infinity() {
  return __uint_as_float(0xff800000u);
}
SWIFTKV_DEVICE bool is_finite(float x) {
  return is_below_infinity(x) && x > minus_infinity();
}

// A finite logit stays one, however large a penalty is; others stay what they are: NaN and +inf fail the row.
SWIFTKV_DEVICE float adjusted(float logit, float changed) {
  if (!is_finite(logit)) return logit;
  return changed > FLT_MAX ? FLT_MAX : changed < -FLT_MAX ? -FLT_MAX : changed;
}

SWIFTKV_DEVICE float forbidden(float logit) {
  return is_below_infinity(logit) ? minus_infinity() : logit;
}

SWIFTKV_DEVICE float rounded_product(float x, float y) {
  return static_cast<float>(static_cast<double>(x) * static_cast<double>(y));
}

SWIFTKV_DEVICE float biased(float logit, float bias) {
  return is_finite(bias) ? adjusted(logit, logit + bias) : forbidden(logit);
}

SWIFTKV_DEVICE float penalised(float logit, const SamplerSlot& s, uint32_t count) {
  float x = adjusted(logit, logit > 0.0f ? logit / s.repetition_penalty : rounded_product(logit, s.repetition_penalty));
  const uint32_t outputs = count & ~kInPrompt;
  if (outputs > 0) {
    const float frequency = rounded_product(s.frequency_penalty, static_cast<float>(outputs));
    x = adjusted(x, x - (frequency + s.presence_penalty));
  }
  return x;
}

SWIFTKV_DEVICE bool ends_early(const SamplerSlot& s, int32_t output_position) {
  return s.num_end_ids > 0 && output_position < s.min_tokens;
}

SWIFTKV_DEVICE bool adjusts(const SamplerSlot& s, int32_t output_position) {
  return s.num_biases > 0 || ends_early(s, output_position) || s.counts != nullptr;
}

// An id may have several biases, which are added in the order of the list: every round adds each id's first one that is
// left. turn, added: [V] ints, by id.
SWIFTKV_DEVICE void add_biases(const SamplerSlot& s, float* room, int32_t* turn, int32_t* added) {
  const auto each = [&](auto&& f) {
    for (int32_t k = static_cast<int32_t>(threadIdx.x); k < s.num_biases; k += kVocabThreads) f(k, s.bias_ids[k]);
  };
  each([&](int32_t, int32_t id) { atomicExch(&added[id], -1); });
  for (;;) {
    each([&](int32_t, int32_t id) { atomicExch(&turn[id], INT32_MAX); });
    __syncthreads();
    bool left = false;
    each([&](int32_t k, int32_t id) {
      if (k <= added[id]) return;
      atomicMin(&turn[id], k);
      left = true;
    });
    if (__syncthreads_or(left) == 0) return;
    each([&](int32_t k, int32_t id) {
      if (turn[id] != k) return;
      room[id] = biased(room[id], s.biases[k]);
      added[id] = k;
    });
    __syncthreads();
  }
}

// room: a copy of the row's logits `own`, written by this block before a barrier. weights: 8 bytes a token that are not
// in use yet.
SWIFTKV_DEVICE void adjust_row(const SamplerSlot& s, int32_t output_position, int32_t vocab, const float* own,
                               float* room, void* weights) {
  const auto first = static_cast<int32_t>(threadIdx.x);
  if (s.num_biases > 0) add_biases(s, room, static_cast<int32_t*>(weights), static_cast<int32_t*>(weights) + vocab);
  if (ends_early(s, output_position)) {
    // An id may be listed twice, so no thread reads what another writes: biases leave NaN and +inf what they are.
    for (int32_t k = first; k < s.num_end_ids; k += kVocabThreads) {
      const int32_t id = s.end_ids[k];
      if (is_below_infinity(own[id])) atomicExch(&room[id], minus_infinity());
    }
    __syncthreads();
  }
  if (s.counts != nullptr) {
    for (int32_t k = 1 + first; k <= s.seen[0]; k += kVocabThreads) {
      const int32_t id = s.seen[k];
      room[id] = penalised(room[id], s, s.counts[id]);
    }
    __syncthreads();
  }
}

}  // namespace swiftkv::cuda
