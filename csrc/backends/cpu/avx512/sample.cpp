// Next-token choice: greedy, or temperature, top-k, top-p and min-p in that order, then one uniform number. Nothing is
// sorted: a cut keeps the tokens above a threshold, and the threshold is found by bisection among ever fewer tokens.
#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/sample_row.h"
#include "core/random.h"

namespace swiftkv::cpu::avx512 {

namespace {

constexpr float kInfinity = __builtin_inff();
constexpr int64_t kBlock = 1024;  // weights summed at once; the running total of the draw advances by such blocks

struct Row {
  const float* logits;
  const uint32_t* bitmask;  // or null
  int64_t vocab;

  // Allowed lanes among logits[i .. i+16). -inf is how a masked logit looks.
  __mmask16 allowed(int64_t i, __m512 v) const {
    __mmask16 m = _mm512_mask_cmp_ps_mask(first_lanes(vocab - i), v, _mm512_set1_ps(-kInfinity), _CMP_NEQ_OQ);
    if (bitmask != nullptr) m &= static_cast<__mmask16>(bitmask[i / 32] >> (i % 32));
    return m;
  }

  __m512 load(int64_t i) const { return load_lanes(logits + i, first_lanes(vocab - i)); }
};

// The lowest id among the best allowed ones; kNoNumbers if the row holds NaN or +inf.
int64_t best_id(const Row& row) {
  __m512 best = _mm512_set1_ps(-kInfinity);
  __m512i ids = _mm512_set1_epi32(-1);
  __m512i lane_ids = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __mmask16 bad = 0;
  for (int64_t i = 0; i < row.vocab; i += 16, lane_ids = _mm512_add_epi32(lane_ids, _mm512_set1_epi32(16))) {
    const __m512 v = row.load(i);
    bad |= _mm512_cmp_ps_mask(v, _mm512_set1_ps(kInfinity), _CMP_NLT_UQ);  // +inf or NaN
    const __mmask16 better = _mm512_mask_cmp_ps_mask(row.allowed(i, v), v, best, _CMP_GT_OQ);
    best = _mm512_mask_mov_ps(best, better, v);
    ids = _mm512_mask_mov_epi32(ids, better, lane_ids);
  }
  if (bad != 0) return kNoNumbers;
  const __mmask16 tied = _mm512_cmp_ps_mask(best, _mm512_set1_ps(max_lanes(best)), _CMP_EQ_OQ);
  // Lanes that saw nothing allowed hold -1, the largest number when read without sign.
  const auto id = static_cast<int32_t>(_mm512_mask_reduce_min_epu32(tied, ids));
  return id < 0 ? kNothingAllowed : id;
}

// exp(x) of 8 lanes in double, x <= 0, within 2 ulp: the Taylor series on |r| <= ln2 / 2, whose rest is below 1e-17.
__m512d exp_double(__m512d x) {
  const __m512d low = _mm512_max_pd(_mm512_set1_pd(-746.0), x);  // exp(-746) is 0
  const __m512d n = _mm512_roundscale_pd(_mm512_mul_pd(low, _mm512_set1_pd(0x1.71547652b82fep+0)), 0);
  __m512d r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.62e42fefa39efp-1), low);
  r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.abc9e3b39803fp-56), r);
  static constexpr double kFactorials[] = {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0,
                                           120.0,       24.0,       6.0,       2.0,      1.0,     1.0};
  __m512d q = _mm512_set1_pd(1.0 / 6227020800.0);  // 1 / 13!
  for (const double f : kFactorials) q = _mm512_fmadd_pd(q, r, _mm512_set1_pd(1.0 / f));
  return _mm512_scalef_pd(q, n);
}

// weights[id] = unnormalised probability after temperature: 1 for the best, 0 for what is not allowed. The array is
// filled to a whole block. Returns the least allowed logit.
float fill_weights(const Row& row, float best, float temperature, double* weights) {
  const __m512 top = _mm512_set1_ps(best), divisor = _mm512_set1_ps(temperature);
  __m512 least = top;
  for (int64_t i = 0; i < row.vocab; i += 16) {
    const __m512 v = row.load(i);
    const __mmask16 m = row.allowed(i, v);
    least = _mm512_mask_min_ps(least, m, least, v);
    const __m512 x = _mm512_maskz_div_ps(m, _mm512_sub_ps(v, top), divisor);
    const __m512d low = exp_double(_mm512_cvtps_pd(_mm512_castps512_ps256(x)));
    const __m512d high = exp_double(_mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
    _mm512_storeu_pd(weights + i, _mm512_maskz_mov_pd(static_cast<__mmask8>(m), low));
    _mm512_storeu_pd(weights + i + 8, _mm512_maskz_mov_pd(static_cast<__mmask8>(m >> 8), high));
  }
  for (int64_t i = (row.vocab + 15) / 16 * 16; i % kBlock != 0; ++i) weights[i] = 0.0;
  return -max_lanes(_mm512_sub_ps(_mm512_setzero_ps(), least));
}

double sum_lanes(__m512d v) {
  double x[8];
  _mm512_storeu_pd(x, v);
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

// Logits and weights side by side: at first all of the row, later only tokens that a cut may still keep.
struct Tokens {
  const float* logits;
  const double* weights;
  int64_t count;
};

// How many tokens of any weight, and what weight in all. Tokens of weight 0 do not count; they are less likely than all
// others, so no cut misses them.
struct Amount {
  double count, weight;
};

Amount amount_from(const Tokens& t, float threshold) {
  const __m512 from = _mm512_set1_ps(threshold);
  const __m512d zero = _mm512_setzero_pd();
  __m512d low = zero, high = zero;
  int64_t count = 0;
  for (int64_t i = 0; i < t.count; i += 16) {
    const __mmask16 rest = first_lanes(t.count - i);
    const __mmask16 m = _mm512_mask_cmp_ps_mask(rest, load_lanes(t.logits + i, rest), from, _CMP_GE_OQ);
    const __mmask8 m_low = static_cast<__mmask8>(m), m_high = static_cast<__mmask8>(m >> 8);
    const __m512d w_low = _mm512_maskz_loadu_pd(m_low, t.weights + i);
    const __m512d w_high = _mm512_maskz_loadu_pd(m_high, t.weights + i + 8);
    count += __builtin_popcount(_mm512_cmp_pd_mask(w_low, zero, _CMP_GT_OQ));
    count += __builtin_popcount(_mm512_cmp_pd_mask(w_high, zero, _CMP_GT_OQ));
    low = _mm512_add_pd(low, w_low);
    high = _mm512_add_pd(high, w_high);
  }
  return {static_cast<double>(count), sum_lanes(_mm512_add_pd(low, high))};
}

// Room for the tokens that are left: a quarter of the vocabulary and one vector more, as stores are of whole vectors.
struct Rest {
  float* logits;
  double* weights;
};

// The tokens of any weight from the threshold up, moved together (over themselves, if they are there already).
Tokens drop_below(const Tokens& t, float threshold, const Rest& to) {
  const __m512 from = _mm512_set1_ps(threshold);
  const __m512d zero = _mm512_setzero_pd();
  int64_t count = 0;
  for (int64_t i = 0; i < t.count; i += 16) {
    const __mmask16 rest = first_lanes(t.count - i);
    const __m512 x = load_lanes(t.logits + i, rest);
    const __mmask16 m = _mm512_mask_cmp_ps_mask(rest, x, from, _CMP_GE_OQ);
    if (m == 0) continue;
    const __m512d w_low = _mm512_maskz_loadu_pd(static_cast<__mmask8>(m), t.weights + i);
    const __m512d w_high = _mm512_maskz_loadu_pd(static_cast<__mmask8>(m >> 8), t.weights + i + 8);
    const uint32_t low = _mm512_cmp_pd_mask(w_low, zero, _CMP_GT_OQ),
                   high = _mm512_cmp_pd_mask(w_high, zero, _CMP_GT_OQ);
    _mm512_storeu_ps(to.logits + count, _mm512_maskz_compress_ps(static_cast<__mmask16>(low | high << 8), x));
    _mm512_storeu_pd(to.weights + count, _mm512_maskz_compress_pd(static_cast<__mmask8>(low), w_low));
    count += __builtin_popcount(low);
    _mm512_storeu_pd(to.weights + count, _mm512_maskz_compress_pd(static_cast<__mmask8>(high), w_high));
    count += __builtin_popcount(high);
  }
  return {to.logits, to.weights, count};
}

// Floats in their order as integers, and back. -0 must come here as +0: they are equal as logits.
int32_t order_of(float x) {
  const int32_t bits = __builtin_bit_cast(int32_t, x + 0.0f);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

float at_order(int64_t order) {
  const int32_t bits = static_cast<int32_t>(order);
  return __builtin_bit_cast(float, bits ^ ((bits >> 31) & 0x7fffffff));
}

// A cut by top-k (part = &Amount::count) or top-p (&Amount::weight). Descending by logit, ties by lower id: keeps the
// shortest prefix of that order that amounts to `target`, at least the best token, and sets the weights behind it to 0.
void keep_prefix(const Row& row, double Amount::* part, double target, float least, float best, double* weights,
                 const Rest& rest) {
  Tokens tokens{row.logits, weights, row.vocab};
  // The highest threshold that lets enough through. Halving the interval of values soon leaves few tokens; its last
  // steps, where the middle rounds to an end, halve the interval of floats.
  int64_t low = order_of(least), high = order_of(best);
  while (low < high) {
    int64_t middle = order_of(0.5f * at_order(low) + 0.5f * at_order(high));
    if (middle <= low || middle > high) middle = (low + high + 1) >> 1;
    const Amount amount = amount_from(tokens, at_order(middle));
    if (amount.*part < target) {
      high = middle - 1;
      continue;
    }
    low = middle;
    if (amount.count * 4 <= static_cast<double>(tokens.count)) tokens = drop_below(tokens, at_order(low), rest);
  }
  const float threshold = at_order(low);
  const double above = amount_from(tokens, at_order(low + 1)).*part;

  double kept = above;
  bool full = false;
  const __m512 at = _mm512_set1_ps(threshold);
  for (int64_t i = 0; i < row.vocab; i += 16) {
    const __m512 x = row.load(i);
    __mmask16 keep = _mm512_cmp_ps_mask(x, at, _CMP_GT_OQ);
    uint32_t tied = _mm512_mask_cmp_ps_mask(first_lanes(row.vocab - i), x, at, _CMP_EQ_OQ);
    for (; tied != 0 && !full; tied &= tied - 1) {
      const int lane = __builtin_ctz(tied);
      const double w = weights[i + lane];
      if (w == 0.0) continue;
      keep |= static_cast<__mmask16>(1u << lane);
      kept += Amount{1.0, w}.*part;
      full = kept >= target;
    }
    const __mmask8 low_half = static_cast<__mmask8>(keep), high_half = static_cast<__mmask8>(keep >> 8);
    _mm512_storeu_pd(weights + i, _mm512_maskz_loadu_pd(low_half, weights + i));
    _mm512_storeu_pd(weights + i + 8, _mm512_maskz_loadu_pd(high_half, weights + i + 8));
  }
}

double total_weight(const double* weights, int64_t begin, int64_t end) {
  __m512d sum = _mm512_setzero_pd();
  for (int64_t i = begin; i < end; i += 8) sum = _mm512_add_pd(sum, _mm512_loadu_pd(weights + i));
  return sum_lanes(sum);
}

double total_weight(const double* weights, int64_t padded) {
  double total = 0.0;
  for (int64_t i = 0; i < padded; i += kBlock) total += total_weight(weights, i, i + kBlock);
  return total;
}

void drop_unlikely(float min_p, double* weights, int64_t padded) {
  const __m512d least = _mm512_set1_pd(static_cast<double>(min_p));
  for (int64_t i = 0; i < padded; i += 8) {
    const __m512d w = _mm512_loadu_pd(weights + i);
    _mm512_storeu_pd(weights + i, _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(w, least, _CMP_GE_OQ), w));
  }
}

// The first id at which the running total exceeds the target; the last one of any weight if rounding leaves none.
int64_t draw(const double* weights, int64_t padded, double target) {
  double mass = 0.0;
  for (int64_t begin = 0; begin < padded; begin += kBlock) {
    const double block = total_weight(weights, begin, begin + kBlock);
    if (mass + block <= target) {
      mass += block;
      continue;
    }
    for (int64_t id = begin; id < begin + kBlock; ++id) {
      mass += weights[id];
      if (mass > target) return id;
    }
  }
  int64_t id = padded - 1;
  while (id > 0 && weights[id] == 0.0) --id;
  return id;
}

int64_t padded_vocab(int64_t vocab) {
  return (vocab + kBlock - 1) / kBlock * kBlock;
}

int64_t rest_count(int64_t vocab) {
  return (vocab / 4 + 2 * 16) / 16 * 16;
}

// One worker's memory.
struct Work {
  double* weights;  // [padded vocabulary]
  Rest rest;
  float* room;  // [vocabulary] of an adjusted row
};

size_t work_bytes(int64_t vocab) {
  const int64_t padded = padded_vocab(vocab);
  return static_cast<size_t>(padded + rest_count(vocab)) * sizeof(double) +
         static_cast<size_t>(rest_count(vocab) + padded_vocab(vocab)) * sizeof(float);
}

Work work_at(std::byte* memory, int64_t vocab) {
  double* weights = reinterpret_cast<double*>(memory);
  double* rest = weights + padded_vocab(vocab);
  float* rest_logits = reinterpret_cast<float*>(rest + rest_count(vocab));
  return {weights, {rest_logits, rest}, rest_logits + rest_count(vocab)};
}

int64_t choose(const Row& row, const SamplerSlot& s, int32_t position, const Work& work) {
  const int64_t best = best_id(row);
  if (best < 0 || s.temperature == 0.0f) return best;

  double* weights = work.weights;
  const int64_t padded = padded_vocab(row.vocab);
  const float top = row.logits[best];
  const float least = fill_weights(row, top, s.temperature, weights);
  if (s.top_k > 0 && s.top_k < row.vocab) keep_prefix(row, &Amount::count, s.top_k, least, top, weights, work.rest);
  if (s.top_p < 1.0f) {
    const double target = static_cast<double>(s.top_p) * total_weight(weights, padded);
    keep_prefix(row, &Amount::weight, target, least, top, weights, work.rest);
  }
  if (s.min_p > 0.0f) drop_unlikely(s.min_p, weights, padded);
  const double uniform = sample_uniform(s.seed, s.choice, static_cast<uint32_t>(position));
  return draw(weights, padded, uniform * total_weight(weights, padded));
}

}  // namespace

size_t sample_scratch(const SampleParams& p, int threads) {
  return static_cast<size_t>(threads) * work_bytes(p.vocab);
}

Status sample(const SampleParams& p, const Context& c) {
  c.parallel_for(p.rows, [&](int64_t i, int worker) {
    const Work work = work_at(c.scratch + static_cast<size_t>(worker) * work_bytes(p.vocab), p.vocab);
    p.ids[i] = sample_row(p, i, work.room, [&](const float* logits, const uint32_t* bitmask) {
      return choose(Row{logits, bitmask, p.vocab}, p.samplers[p.slots[i]], p.output_positions[i], work);
    });
  });
  count_drawn(p);
  return {};
}

}  // namespace swiftkv::cpu::avx512
