// Next-token choice: greedy, or temperature, top-k, top-p and min-p in that order, then one uniform number. Nothing is
// sorted: a cut keeps the tokens above a threshold, and the threshold is found by bisection among ever fewer tokens.
#pragma once

#include "backends/cpu/kernels.h"
#include "backends/cpu/sample_row.h"
#include "backends/cpu/simd/vec.h"
#include "core/random.h"

namespace swiftkv::cpu::simd {

// Weights summed at once; the running total of the draw advances by such blocks.
inline constexpr int64_t kDrawBlock = 1024;

static inline int64_t padded_vocab(int64_t vocab) {
  return (vocab + kDrawBlock - 1) / kDrawBlock * kDrawBlock;
}

// Logits and weights side by side: at first all of the row, later only tokens that a cut may still keep. Whole blocks:
// what lies behind the last token has weight 0.
struct SampleTokens {
  float* logits;
  double* weights;
  int64_t count;
};

// One worker's memory: all tokens, and room for those that are left.
struct SampleWork {
  SampleTokens all, rest;
};

static inline size_t sample_work_bytes(int64_t vocab) {
  return static_cast<size_t>(2 * padded_vocab(vocab)) * (sizeof(float) + sizeof(double));
}

static inline SampleWork sample_work(std::byte* memory, int64_t vocab) {
  const int64_t padded = padded_vocab(vocab);
  double* weights = reinterpret_cast<double*>(memory);
  float* logits = reinterpret_cast<float*>(weights + 2 * padded);
  return {{logits, weights, vocab}, {logits + padded, weights + padded, 0}};
}

// The row's logits, -inf where the bitmask (or null) forbids and behind the vocabulary. False if one is NaN or +inf.
template <class V>
static bool take_logits(const float* row, const uint32_t* bitmask, const SampleTokens& out) {
  constexpr float kInfinity = __builtin_inff();
  typename V::I32 finite = typename V::I32{} - 1;
  for (int64_t i = 0; i < padded_vocab(out.count); i += V::kLanes) {
    typename V::F32 x = keep_first<V>(out.count - i, load_first<V>(row + i, out.count - i), -kInfinity);
    finite &= x < kInfinity;
    if (bitmask != nullptr && i < out.count) {
      const uint32_t word = bitmask[i / 32] >> (i % 32);
      x = ((typename V::I32{} + static_cast<int32_t>(word)) >> lane_numbers<V>() & 1) != 0 ? x : set<V>(-kInfinity);
    }
    store<V>(out.logits + i, x);
  }
  for (int i = 0; i < V::kLanes; ++i)
    if (finite[i] == 0) return false;
  return true;
}

// The lowest id among the best.
template <class V>
static int64_t best_token(const SampleTokens& t) {
  typename V::F32 most = set<V>(-__builtin_inff());
  for (int64_t i = 0; i < padded_vocab(t.count); i += V::kLanes) {
    const typename V::F32 x = load<V>(t.logits + i);
    most = x > most ? x : most;
  }
  const float best = max_lanes<V>(most);
  if (best == -__builtin_inff()) return kNothingAllowed;
  int64_t id = 0;
  while (t.logits[id] != best) ++id;
  return id;
}

// exp(x) in double, x <= 0, within 2 ulp; exactly 0 below -746. The Taylor series on |r| <= ln2 / 2, whose rest is
// below 1e-17.
template <class V>
static inline typename V::F64 exp_double(typename V::F64 x) {
  using F64 = typename V::F64;
  using U64 = typename V::U64;
  const F64 none{};
  const F64 low = x < -746.0 ? none - 746.0 : x;
  // Beside 1.5 * 2^52 the unit is 1: the adder rounds to the nearest integer, and the bits count it.
  constexpr double kMagic = 0x1.8p52;
  const F64 shifted = V::fmadd(low, 0x1.71547652b82fep+0 - none, kMagic - none);
  const F64 n = shifted - kMagic;
  F64 r = V::fmadd(n, -0x1.62e42fefa39efp-1 - none, low);
  r = V::fmadd(n, -0x1.abc9e3b39803fp-56 - none, r);
  constexpr double kFactorials[] = {479001600.0, 39916800.0, 3628800.0, 362880.0, 40320.0, 5040.0, 720.0,
                                    120.0,       24.0,       6.0,       2.0,      1.0,     1.0};
  F64 q = 1.0 / 6227020800.0 - none;  // 1 / 13!
  for (const double f : kFactorials) q = V::fmadd(q, r, 1.0 / f - none);
  // 2^n in two steps, each of them a normal number: n is in [-1077, 0].
  const U64 bits = reinterpret_cast<U64>(shifted) - 0x4338000000000000u;
  const U64 half = ((bits + 2048u) >> 1) - 1024u;
  return q * reinterpret_cast<F64>((half + 1023u) << 52) * reinterpret_cast<F64>((bits - half + 1023u) << 52);
}

template <class V>
static inline typename V::F64 load_double(const float* p) {
  return __builtin_convertvector(read<typename V::HalfF32>(p), typename V::F64);
}

// weights[id] = unnormalised probability after temperature: 1 for the best, 0 for what is not allowed (whose logit is
// -inf). The quotient is rounded to f32, as in the scalar level. Returns the least finite logit.
template <class V>
static float fill_weights(const SampleTokens& t, float best, float temperature) {
  using F32 = typename V::F32;
  F32 least = set<V>(best);
  for (int64_t i = 0; i < padded_vocab(t.count); i += V::kLanes) {
    const F32 x = load<V>(t.logits + i);
    least = (x < least) & (x > -__builtin_inff()) ? x : least;
    float quotients[V::kLanes];
    store<V>(quotients, (x - best) / temperature);
    for (int half = 0; half < V::kLanes; half += V::kLanes / 2)
      write(t.weights + i + half, exp_double<V>(load_double<V>(quotients + half)));
  }
  return -max_lanes<V>(-least);
}

// How many tokens of any weight, and what weight in all. Tokens of weight 0 do not count; they are less likely than all
// others, so no cut misses them.
struct SampleAmount {
  double count, weight;
};

template <class V>
static inline double sum_lanes_double(typename V::F64 v) {
  double sum = v[0];
  for (int i = 1; i < V::kLanes / 2; ++i) sum += v[i];
  return sum;
}

template <class V>
static SampleAmount amount_from(const SampleTokens& t, float threshold) {
  using F64 = typename V::F64;
  const F64 none{}, from = static_cast<double>(threshold) - none, one = 1.0 - none;
  F64 count{}, weight{};
  for (int64_t i = 0; i < padded_vocab(t.count); i += V::kLanes / 2) {
    const F64 w = read<F64>(t.weights + i);
    const auto in = (load_double<V>(t.logits + i) >= from) & (w > 0.0);
    count += in ? one : none;
    weight += in ? w : none;
  }
  return {sum_lanes_double<V>(count), sum_lanes_double<V>(weight)};
}

// The tokens of any weight from the threshold up, moved together (over themselves, if they are there already).
static inline SampleTokens drop_below(const SampleTokens& t, float threshold, SampleTokens to) {
  to.count = 0;
  for (int64_t i = 0; i < t.count; ++i) {
    to.logits[to.count] = t.logits[i];
    to.weights[to.count] = t.weights[i];
    to.count += (t.logits[i] >= threshold) & (t.weights[i] > 0.0);
  }
  for (int64_t i = to.count; i < padded_vocab(to.count); ++i) to.logits[i] = -__builtin_inff(), to.weights[i] = 0.0;
  return to;
}

// Floats in their order as integers, and back. -0 must come here as +0: they are equal as logits.
static inline int32_t order_of(float x) {
  const int32_t bits = __builtin_bit_cast(int32_t, x + 0.0f);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

static inline float at_order(int64_t order) {
  const int32_t bits = static_cast<int32_t>(order);
  return __builtin_bit_cast(float, bits ^ ((bits >> 31) & 0x7fffffff));
}

// A cut by top-k (part = &SampleAmount::count) or top-p (&SampleAmount::weight). Descending by logit, ties by lower id:
// keeps the shortest prefix of that order that amounts to `target`, at least the best token, and sets the weights
// behind it to 0.
template <class V>
static void keep_prefix(double SampleAmount::* part, double target, float least, float best, const SampleWork& work) {
  SampleTokens tokens = work.all;
  // The highest threshold that lets enough through. Halving the interval of values soon leaves few tokens; its last
  // steps, where the middle rounds to an end, halve the interval of floats.
  int64_t low = order_of(least), high = order_of(best);
  while (low < high) {
    int64_t middle = order_of(0.5f * at_order(low) + 0.5f * at_order(high));
    if (middle <= low || middle > high) middle = (low + high + 1) >> 1;
    const SampleAmount amount = amount_from<V>(tokens, at_order(middle));
    if (amount.*part < target) {
      high = middle - 1;
      continue;
    }
    low = middle;
    if (amount.count * 4 <= static_cast<double>(tokens.count)) tokens = drop_below(tokens, at_order(low), work.rest);
  }
  const float threshold = at_order(low);
  double kept = amount_from<V>(tokens, at_order(low + 1)).*part;
  bool full = false;
  for (int64_t i = 0; i < work.all.count; ++i) {
    const float x = work.all.logits[i];
    double& w = work.all.weights[i];
    if (x > threshold || w == 0.0) continue;
    if (x < threshold || full) {
      w = 0.0;
    } else {
      kept += SampleAmount{1.0, w}.*part;
      full = kept >= target;
    }
  }
}

template <class V>
static double total_weight(const double* weights, int64_t begin, int64_t end) {
  typename V::F64 sums[4] = {};
  for (int64_t i = begin; i < end; i += 2 * V::kLanes)
    for (int turn = 0; turn < 4; ++turn) sums[turn] += read<typename V::F64>(weights + i + turn * (V::kLanes / 2));
  return sum_lanes_double<V>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <class V>
static double total_weight(const SampleTokens& t) {
  double total = 0.0;
  for (int64_t i = 0; i < t.count; i += kDrawBlock) total += total_weight<V>(t.weights, i, i + kDrawBlock);
  return total;
}

// The first id at which the running total exceeds the target; the last one of any weight if rounding leaves none.
template <class V>
static int64_t draw(const SampleTokens& t, double target) {
  double mass = 0.0;
  for (int64_t begin = 0; begin < t.count; begin += kDrawBlock) {
    const double block = total_weight<V>(t.weights, begin, begin + kDrawBlock);
    if (mass + block <= target) {
      mass += block;
      continue;
    }
    for (int64_t id = begin; id < begin + kDrawBlock; ++id) {
      mass += t.weights[id];
      if (mass > target) return id;
    }
  }
  int64_t id = t.count - 1;
  while (id > 0 && t.weights[id] == 0.0) --id;
  return id;
}

template <class V>
static int64_t choose_token(const float* row, const uint32_t* bitmask, const SamplerSlot& s, int32_t position,
                            const SampleWork& work) {
  const SampleTokens& all = work.all;
  if (!take_logits<V>(row, bitmask, all)) return kNoNumbers;
  const int64_t best = best_token<V>(all);
  if (best < 0 || s.temperature == 0.0f) return best;

  const float top = all.logits[best];
  const float least = fill_weights<V>(all, top, s.temperature);
  if (s.top_k > 0 && s.top_k < all.count) keep_prefix<V>(&SampleAmount::count, s.top_k, least, top, work);
  if (s.top_p < 1.0f) {
    const double target = static_cast<double>(s.top_p) * total_weight<V>(all);
    keep_prefix<V>(&SampleAmount::weight, target, least, top, work);
  }
  if (s.min_p > 0.0f) {
    for (int64_t i = 0; i < all.count; ++i)
      all.weights[i] = all.weights[i] >= static_cast<double>(s.min_p) ? all.weights[i] : 0.0;
  }
  const double uniform = sample_uniform(s.seed, s.choice, static_cast<uint32_t>(position));
  return draw<V>(all, uniform * total_weight<V>(all));
}

template <class V>
static size_t sample_scratch(const SampleParams& p, int threads) {
  return static_cast<size_t>(threads) * sample_work_bytes(p.vocab);
}

template <class V>
static Status sample(const SampleParams& p, const Context& c) {
  c.parallel_for(p.rows, [&](int64_t i, int worker) {
    const SampleWork work = sample_work(c.scratch + static_cast<size_t>(worker) * sample_work_bytes(p.vocab), p.vocab);
    // An adjusted row is taken before anything is left over.
    p.ids[i] = sample_row(p, i, work.rest.logits, [&](const float* logits, const uint32_t* bitmask) {
      return choose_token<V>(logits, bitmask, p.samplers[p.slots[i]], p.output_positions[i], work);
    });
  });
  count_drawn(p);
  return {};
}

}  // namespace swiftkv::cpu::simd
