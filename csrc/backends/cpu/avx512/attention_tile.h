// The arithmetic of attention: the product of a few rows with a panel, the softmax of one split, the merge of two.
// Decode and prefill use nothing else, and each output has one accumulator and one order; so a row's bits are the same
// whichever of them computes it and whatever rows lie beside it.
#pragma once

#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/kernels.h"

namespace swiftkv::cpu::avx512 {

inline constexpr int kTileRows = 6;     // with 4 vectors across: 24 accumulators of the 32 registers
inline constexpr int kTileColumns = 4;  // vectors of 16

// Panels hold words of 32 bits: pairs of bf16 numbers (bf16 and fp8 caches) or one f32 number. A step multiplies the
// numbers of one word by their partners in a row: kWords words of `a`, a bf16 pair, two f32 numbers, or one.

// bf16 rows, bf16 panels: both products of a pair at once.
struct DotBf16 {
  static constexpr int kPair = 2, kWords = 1;
  static inline __m512i column(const uint32_t* b, int c, int) { return _mm512_loadu_si512(b + 16 * c); }
  static inline __m512 step(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

// One half of every pair, as f32.
static inline __m512i widen_half(__m512i pairs, int which) {
  return which == 0 ? _mm512_slli_epi32(pairs, 16) : _mm512_and_si512(pairs, _mm512_set1_epi32(-65536));
}

// f32 rows, bf16 panels: the first of a pair, then the second, widened in registers. Rows as sums of two bf16 numbers
// would take as many instructions (two products of 32 numbers instead of two of 16), and lose the golden tokens' bits.
struct DotMixed {
  static constexpr int kPair = 2, kWords = 2;
  static inline __m512i column(const uint32_t* b, int c, int which) {
    return widen_half(_mm512_loadu_si512(b + 16 * c), which);
  }
  static inline __m512 step(__m512 sum, __m512i a, __m512i b) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
  }
};

// f32 rows, f32 panels.
struct DotF32 {
  static constexpr int kPair = 1, kWords = 1;
  static inline __m512i column(const uint32_t* b, int c, int) { return _mm512_loadu_si512(b + 16 * c); }
  static inline __m512 step(__m512 sum, __m512i a, __m512i b) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
  }
};

// Words of a row that hold its first `numbers` numbers (even, where they are bf16 pairs).
template <class Dot>
static inline int64_t row_words(int64_t numbers) {
  return numbers * Dot::kWords / Dot::kPair;
}

// out[r][16 c ..] (+)= sum over i of a[r][i] * b[i][16 c ..], i ascending.
struct Product {
  const uint32_t* a;  // [rows, steps * kWords]
  int64_t a_stride;
  const uint32_t* b;  // [steps, 16 columns]
  int64_t b_stride;
  float* out;  // [rows, 16 columns]
  int64_t out_stride;
  int64_t steps;
  bool add;  // start from what is in out; otherwise from 0
  // Memory to fetch meanwhile, `fetch_step` bytes of both a step; 0 where there is nothing to fetch.
  const std::byte* fetch[2] = {};
  int64_t fetch_step = 0;
};

template <class Dot, int R, int C, bool kFetch>
static void multiply_tile(const Product& p) {
  __m512 sums[R][C];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c)
      sums[r][c] = p.add ? _mm512_loadu_ps(p.out + r * p.out_stride + 16 * c) : _mm512_setzero_ps();
  }
  const uint32_t* a = p.a;
  const uint32_t* b = p.b;
  [[maybe_unused]] const std::byte *fetch0 = p.fetch[0], *fetch1 = p.fetch[1];
  const int64_t a_stride = p.a_stride, b_stride = p.b_stride;
  [[maybe_unused]] const int64_t fetch_step = p.fetch_step;
  for (int64_t i = 0; i < p.steps; ++i, a += Dot::kWords, b += b_stride) {
    if constexpr (kFetch) {
      prefetch_line(fetch0);
      prefetch_line(fetch1);
      fetch0 += fetch_step;
      fetch1 += fetch_step;
    }
#pragma GCC unroll 2
    for (int w = 0; w < Dot::kWords; ++w) {
      __m512i column[C];
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) column[c] = Dot::column(b, c, w);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512i word = _mm512_set1_epi32(static_cast<int32_t>(a[r * a_stride + w]));
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c) sums[r][c] = Dot::step(sums[r][c], word, column[c]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) _mm512_storeu_ps(p.out + r * p.out_stride + 16 * c, sums[r][c]);
  }
}

using TileFunction = void (*)(const Product&);

// Fetching takes registers that tall tiles do not have to spare.
template <class Dot, bool kFetch>
static constexpr TileFunction kTileFunctions[kTileRows][kTileColumns] = {
    {multiply_tile<Dot, 1, 1, kFetch>, multiply_tile<Dot, 1, 2, kFetch>, multiply_tile<Dot, 1, 3, kFetch>,
     multiply_tile<Dot, 1, 4, kFetch>},
    {multiply_tile<Dot, 2, 1, kFetch>, multiply_tile<Dot, 2, 2, kFetch>, multiply_tile<Dot, 2, 3, kFetch>,
     multiply_tile<Dot, 2, 4, kFetch>},
    {multiply_tile<Dot, 3, 1, kFetch>, multiply_tile<Dot, 3, 2, kFetch>, multiply_tile<Dot, 3, 3, kFetch>,
     multiply_tile<Dot, 3, 4, kFetch>},
    {multiply_tile<Dot, 4, 1, kFetch>, multiply_tile<Dot, 4, 2, kFetch>, multiply_tile<Dot, 4, 3, kFetch>,
     multiply_tile<Dot, 4, 4, kFetch>},
    {multiply_tile<Dot, 5, 1, kFetch>, multiply_tile<Dot, 5, 2, kFetch>, multiply_tile<Dot, 5, 3, kFetch>,
     multiply_tile<Dot, 5, 4, kFetch>},
    {multiply_tile<Dot, 6, 1, kFetch>, multiply_tile<Dot, 6, 2, kFetch>, multiply_tile<Dot, 6, 3, kFetch>,
     multiply_tile<Dot, 6, 4, kFetch>},
};

static inline int64_t strips(int64_t columns) {
  return (columns + kTileColumns - 1) / kTileColumns;
}

// rows 1..6, any number of 16-wide columns, in equal strips of at most four.
template <class Dot>
static void multiply(int64_t rows, int64_t columns, Product p) {
  const int64_t count = strips(columns);
  for (int64_t s = 0; s < count; ++s) {
    const int64_t width = columns * (s + 1) / count - columns * s / count;
    (p.fetch_step > 0 ? kTileFunctions<Dot, true> : kTileFunctions<Dot, false>)[rows - 1][width - 1](p);
    p.b += 16 * width;
    p.out += 16 * width;
    for (const std::byte*& fetch : p.fetch) fetch += p.steps * p.fetch_step;
  }
}

// What is known of a row after some keys: out is the sum of exp(score - max) v, not yet divided by sum.
struct SoftmaxState {
  float max;
  float sum;
};

// A row whose scores are all -inf keeps sum 0 instead of exp(-inf + inf).
static inline float finite_base(float max) {
  return max == -__builtin_inff() ? 0.0f : max;
}

template <class Dot>
static inline void store_weights(float* row, int64_t i, __m512 w) {
  if constexpr (Dot::kWords < Dot::kPair)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<uint16_t*>(row) + i), narrow_bf16(w));
  else
    _mm512_storeu_ps(row + i, w);
}

// Rows whose softmax is computed together, so that the chains of one row fill the waits of another.
inline constexpr int kSoftmaxRows = 4;

// row[i] <- raw score * k_factor[i] for i < keys (1..256), -inf from there to the end of the vector. Returns the
// largest.
static inline float scale_scores(float* row, const float* k_factor, int64_t keys) {
  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  __m512 most[4] = {nothing, nothing, nothing, nothing};
  int64_t i = 0;
  for (; i + 64 <= keys; i += 64) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512 s = _mm512_mul_ps(_mm512_loadu_ps(row + i + 16 * j), _mm512_loadu_ps(k_factor + i + 16 * j));
      most[j] = _mm512_max_ps(most[j], s);
      _mm512_storeu_ps(row + i + 16 * j, s);
    }
  }
  for (; i < keys; i += 16) {
    const __mmask16 m = first_lanes(keys - i);
    const __m512 s = _mm512_mask_mul_ps(nothing, m, _mm512_loadu_ps(row + i), _mm512_loadu_ps(k_factor + i));
    most[0] = _mm512_max_ps(most[0], s);
    _mm512_storeu_ps(row + i, s);
  }
  return max_lanes(_mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
}

// Scaled scores become weights of V in place, as the words that Dot takes: exp(score - base) * v_factor, zero from
// `keys` to the end of its vector. Returns the sum of the exponentials.
template <class Dot>
static inline float exponentiate(float* row, float base, const float* v_factor, int64_t keys) {
  const __m512 b = _mm512_set1_ps(base);
  __m512 sum = _mm512_setzero_ps();
  int64_t i = 0;
  for (; i + 64 <= keys; i += 64) {
    __m512 e[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) e[j] = exp_lanes(_mm512_sub_ps(_mm512_loadu_ps(row + i + 16 * j), b));
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      sum = _mm512_add_ps(sum, e[j]);
      store_weights<Dot>(row, i + 16 * j, _mm512_mul_ps(e[j], _mm512_loadu_ps(v_factor + i + 16 * j)));
    }
  }
  for (; i < keys; i += 16) {
    const __m512 e = exp_lanes(_mm512_sub_ps(_mm512_loadu_ps(row + i), b));
    sum = _mm512_add_ps(sum, e);
    store_weights<Dot>(row, i, _mm512_maskz_mul_ps(first_lanes(keys - i), e, _mm512_loadu_ps(v_factor + i)));
  }
  return sum_lanes(sum);
}

// Softmax of up to kSoftmaxRows rows of raw scores of one split, in place; rows that see no key are passed over.
template <class Dot>
static inline void softmax_rows(float* scores, const float* k_factor, const float* v_factor, const int32_t* keys,
                                int64_t rows, SoftmaxState* states) {
  for (int64_t r = 0; r < rows; ++r) {
    if (keys[r] > 0) states[r].max = scale_scores(scores + r * kAttentionSplit, k_factor, keys[r]);
  }
  for (int64_t r = 0; r < rows; ++r) {
    if (keys[r] > 0)
      states[r].sum = exponentiate<Dot>(scores + r * kAttentionSplit, finite_base(states[r].max), v_factor, keys[r]);
  }
}

// total <- total merged with the keys that follow it. Both outs are [columns, 16].
static inline void merge(SoftmaxState& total, float* out, SoftmaxState next, const float* next_out, int64_t columns) {
  const float max = next.max > total.max ? next.max : total.max;
  const float keep = exp_one(total.max - finite_base(max)), add = exp_one(next.max - finite_base(max));
  const __m512 k = _mm512_set1_ps(keep), a = _mm512_set1_ps(add);
  for (int64_t c = 0; c < columns; ++c) {
    const __m512 kept = _mm512_mul_ps(_mm512_loadu_ps(out + 16 * c), k);
    _mm512_storeu_ps(out + 16 * c, _mm512_fmadd_ps(_mm512_loadu_ps(next_out + 16 * c), a, kept));
  }
  total.sum = total.sum * keep + next.sum * add;
  total.max = max;
}

}  // namespace swiftkv::cpu::avx512
