// Next-token choice: greedy, or temperature, top-k, top-p and min-p in that order, then one uniform number. Nothing is
// sorted (vocab_cut.cuh). Weights exp((logit - best) / temperature) are doubles as on the cpu; as integers, in units of
// at most 2^-60 of their sum, they are added exactly, so that a token depends on logits, options and the random number.
#pragma once

#include "backends/cuda/sample_adjust.cuh"
#include "backends/cuda/sample_plan.h"
#include "backends/cuda/vocab_cut.cuh"
#include "core/random.h"

namespace swiftkv::cuda {

// Of the rows of a wave. weights: 8 bytes a token, for these or, before there are any, for biases; or for the list of
// what top-k leaves: weights, logits and ids.
struct SampleScratch {
  std::byte* weights;
  std::byte* logits;  // adjusted, 4 bytes a token
  size_t row_weights, row_logits;
};

// The tokens that can be drawn, in the order of their ids.
struct SampleRow {
  const float* logits;      // [count]
  const uint32_t* bitmask;  // by place, or null
  const int32_t* ids;       // [count], or null: places are ids
  int32_t count;
};

// -inf is how a masked logit looks.
SWIFTKV_DEVICE uint32_t key_at(const SampleRow& row, int32_t place) {
  const float x = row.logits[place];
  if (x == minus_infinity()) return kNoKey;
  if (row.bitmask != nullptr && (row.bitmask[place / 32] >> (place % 32) & 1u) == 0) return kNoKey;
  return key_of(x);
}

// What a look at all logits shows: the key of the best allowed token above the complement of its place, so that the
// greatest is the lowest place among equals. All ones: NaN or +inf; 0: nothing allowed.
struct RowScan {
  Amount best;
  bool some;  // something besides -inf, allowed or not
};
inline constexpr Amount kBadRow = ~Amount{0};

SWIFTKV_DEVICE int32_t best_place(const RowScan& scan) {
  return static_cast<int32_t>(~static_cast<uint32_t>(scan.best));
}
SWIFTKV_DEVICE uint32_t best_key(const RowScan& scan) {
  return static_cast<uint32_t>(scan.best >> 32);
}

// copy: null, or room for the logits.
SWIFTKV_DEVICE RowScan scan_row(const SampleRow& row, float* copy, VocabShared& s) {
  Amount best = 0;
  bool some = false;
#pragma unroll 4
  for (auto i = static_cast<int32_t>(threadIdx.x); i < row.count; i += kVocabThreads) {
    const float x = row.logits[i];
    const uint32_t key = key_at(row, i);
    if (copy != nullptr) copy[i] = x;
    some |= x > minus_infinity();
    Amount one = key == kNoKey ? 0 : Amount{key} << 32 | static_cast<uint32_t>(~i);
    if (!is_below_infinity(x)) one = kBadRow;
    best = one > best ? one : best;
  }
  best = block_max(best, s);
  return {best, __syncthreads_or(some) != 0};
}

// Leaves a list of the kept tokens in place of the row, in memory that has room for it.
SWIFTKV_DEVICE SampleRow list_kept(const SampleRow& row, const Cut& cut, int32_t kept, std::byte* memory,
                                   VocabShared& s) {
  auto* logits = reinterpret_cast<float*>(memory + int64_t{kept} * 8);
  auto* ids = reinterpret_cast<int32_t*>(memory + int64_t{kept} * 12);
  for_each_kept(
      row.count, [&](int32_t i) { return keeps(cut, key_at(row, i), i); },
      [&](int32_t i, int32_t rank) {
        logits[rank] = row.logits[i];
        ids[rank] = i;
      },
      s);
  __syncthreads();
  return {logits, nullptr, ids, kept};
}

// weights[place] = unnormalised probability after temperature: 1 for the best, 0 for what is not kept. Returns the unit
// in which they are counted as integers: a power of two by which a weight is multiplied.
SWIFTKV_DEVICE double fill_weights(const SampleRow& row, const Cut& cut, float best, float temperature, double* weights,
                                   VocabShared& s) {
  double sum = 0.0;
  for (auto i = static_cast<int32_t>(threadIdx.x); i < row.count; i += kVocabThreads) {
    double w = 0.0;
    if (keeps(cut, key_at(row, i), i)) {
      const float x = (row.logits[i] - best) / temperature;
      // exp(-44) is below 2^-63, and counts as 0 below.
      if (x > -44.0f) w = exp(static_cast<double>(x));
    }
    weights[i] = w;
    sum += w;
  }
  const double total = block_total(sum, s);  // from 1 to the number of tokens
  return ldexp(1.0, 60 - ilogb(total));
}

SWIFTKV_DEVICE Amount amount_of(double weight, double unit) {
  return static_cast<Amount>(weight * unit);
}

// floor(uniform * total): a uniform has 53 bits.
SWIFTKV_DEVICE Amount scaled(double uniform, Amount total) {
  const auto u = static_cast<Amount>(uniform * 0x1p53) << 11;  // uniform * 2^64
  const Amount u_high = u >> 32, u_low = u & 0xffffffffu, t_high = total >> 32, t_low = total & 0xffffffffu;
  const Amount low = u_low * t_low, middle = u_high * t_low + (low >> 32);
  const Amount other = u_low * t_high + (middle & 0xffffffffu);
  return u_high * t_high + (middle >> 32) + (other >> 32);
}

// By temperature above 0. `memory` is the row's weights in scratch, `scan` of the row.
SWIFTKV_DEVICE int32_t draw(SampleRow row, const SamplerSlot& s, int32_t output_position, const RowScan& scan,
                            std::byte* memory, VocabShared& shared) {
  const int32_t best = best_place(scan);
  const float best_logit = row.logits[best];
  const uint32_t low = kKeyOfMinusInfinity + 1, high = best_key(scan);
  Cut cut = keep_all();
  if (s.top_k > 0 && s.top_k < row.count) {
    cut = cut_prefix(
        row.count, [&](int32_t i) { return key_at(row, i); }, [](int32_t) { return Amount{1}; },
        static_cast<Amount>(s.top_k), low, high, shared);
    if (list_after_top_k(s.top_k, row.count) && cut.last_place != INT32_MAX) {
      row = list_kept(row, cut, s.top_k, memory, shared);
      cut = keep_all();
    }
  }
  auto* weights = reinterpret_cast<double*>(memory);
  const double unit = fill_weights(row, cut, best_logit, s.temperature, weights, shared);
  __syncthreads();
  const auto weight_at = [&](int32_t i) { return amount_of(weights[i], unit); };
  if (s.top_p < 1.0f) {
    Amount sum = 0;
    for (auto i = static_cast<int32_t>(threadIdx.x); i < row.count; i += kVocabThreads) sum += weight_at(i);
    const double target = ceil(static_cast<double>(s.top_p) * static_cast<double>(block_prefix(sum, shared).total));
    cut = cut_prefix(
        row.count, [&](int32_t i) { return key_at(row, i); }, weight_at, target < 1.0 ? 1 : static_cast<Amount>(target),
        low, high, shared);
  }
  const auto kept = [&](int32_t i) {
    const double w = weights[i];  // relative to the most likely token, whose weight is 1
    return w >= static_cast<double>(s.min_p) && keeps(cut, key_at(row, i), i) ? amount_of(w, unit) : 0;
  };
  const double uniform = sample_uniform(s.seed, s.choice, static_cast<uint32_t>(output_position));
  const int32_t place = find_place(row.count, kept, [&](Amount total) { return scaled(uniform, total); }, shared);
  if (place < 0) return best;  // min-p above 1 leaves nothing
  return row.ids == nullptr ? place : row.ids[place];
}

// A block a row; first_row: of the wave.
__global__ __launch_bounds__(kVocabThreads, 1) void sample_kernel(SampleParams p, SampleScratch scratch,
                                                                  int64_t first_row) {
  SWIFTKV_SHARED(VocabShared, shared);
  const int64_t i = first_row + blockIdx.x;
  SampleRow row = {p.logits + i * p.vocab, nullptr, nullptr, static_cast<int32_t>(p.vocab)};
  const auto answer = [&](int32_t id) {
    if (threadIdx.x == 0) p.ids[i] = id;
  };

  const int32_t forced = p.forced_ids == nullptr ? -1 : p.forced_ids[i];
  if (forced >= 0) {
    const RowScan scan = scan_row(row, nullptr, shared);
    return answer(scan.best == kBadRow || !scan.some ? kNoNumbers : forced);
  }
  const int64_t mask_row = p.mask_rows == nullptr ? i : p.mask_rows[i];
  if (p.bitmask != nullptr && mask_row >= 0) row.bitmask = p.bitmask + mask_row * ((p.vocab + 31) / 32);

  const SamplerSlot& s = p.samplers[p.slots[i]];
  const int32_t position = p.output_positions[i];
  std::byte* weights = scratch.weights + blockIdx.x * scratch.row_weights;
  float* room = nullptr;
  if (adjusts(s, position)) room = reinterpret_cast<float*>(scratch.logits + blockIdx.x * scratch.row_logits);
  RowScan scan = scan_row(row, room, shared);
  const bool some = scan.some;
  if (room != nullptr) {
    adjust_row(s, position, row.count, row.logits, room, weights);
    row.logits = room;
    scan = scan_row(row, nullptr, shared);
  }
  if (scan.best == kBadRow) return answer(kNoNumbers);
  if (scan.best == 0) return answer(some ? kNothingAllowed : kNoNumbers);
  answer(s.temperature == 0.0f ? best_place(scan) : draw(row, s, position, scan, weights, shared));
}

// Adds the tokens that were drawn to what their slots have seen; after all rows, so that rows that share a slot are
// drawn from the counts before the step. The thread of a slot's first row counts for all of them, in their order.
__global__ void count_drawn_kernel(SampleParams p) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (first >= p.rows) return;
  const int32_t slot = p.slots[first];
  const SamplerSlot& s = p.samplers[slot];
  if (s.counts == nullptr) return;
  for (int64_t i = 0; i < first; ++i) {
    if (p.slots[i] == slot) return;
  }
  for (int64_t i = first; i < p.rows; ++i) {
    const int32_t id = p.ids[i];
    if (p.slots[i] != slot || id < 0 || (p.forced_ids != nullptr && p.forced_ids[i] >= 0)) continue;
    if (s.counts[id]++ == 0) s.seen[++s.seen[0]] = id;
  }
}

}  // namespace swiftkv::cuda
