// Products of 8-bit activations with int8 and int4 weights: 1 to 6 rows x 64 outputs, exact within groups of 32 along
// k.
#include <immintrin.h>

#include <cstring>

#include "backends/cpu/avx512/gemm.h"

namespace swiftkv::cpu::avx512 {
namespace {

constexpr int kColumns = kPanel / 16;
constexpr int64_t kGroupSteps = kQuantGroup / 4;  // dot products of four that make up a group
constexpr int64_t kLine = 64;

// Rows of this many strips at most keep their f32 sums in registers beside the integer ones.
constexpr int kRowsInRegisters = 3;

// A few rows over some groups of one panel.
struct Strip {
  const std::byte* codes;  // row 0 at the first group
  int64_t code_stride;
  const float* scales;         // row 0 at the first group
  const int32_t* corrections;  // likewise
  int64_t group_stride;
  const std::byte* w;  // the panel at the first group
  int64_t groups;
  int64_t last_steps;  // of the last group, 1..kGroupSteps (int8 only: int4 pads its groups)
  bool resume;         // sums of the earlier groups are in out
  float* out;
  int64_t out_stride;
  const std::byte* next;  // weights to bring near while this strip computes
  int64_t next_lines;     // lines of them a group
};

inline __m512i broadcast_codes(const std::byte* codes) {
  int32_t four;
  std::memcpy(&four, codes, sizeof four);
  return _mm512_set1_epi32(four);
}

template <int R>
inline void add_products(__m512i (&sums)[R][kColumns], const __m512i (&weights)[kColumns], const std::byte* codes,
                         int64_t stride) {
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    const __m512i x = broadcast_codes(codes + r * stride);
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sums[r][c] = _mm512_dpbusd_epi32(sums[r][c], weights[c], x);
  }
}

struct Int8Weights {
  static constexpr int64_t kGroupBytes = kGroupSteps * kStepBytes;

  template <int R>
  static inline void add_step(__m512i (&sums)[R][kColumns], const std::byte* w, const std::byte* codes,
                              int64_t stride) {
    __m512i weights[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) weights[c] = _mm512_loadu_si512(w + 64 * c);
    add_products<R>(sums, weights, codes, stride);
  }

  template <int R>
  static inline void add_group(__m512i (&sums)[R][kColumns], const std::byte* w, const std::byte* codes, int64_t stride,
                               int64_t steps) {
    if (steps == kGroupSteps) {
#pragma GCC unroll 8
      for (int64_t i = 0; i < kGroupSteps; ++i) add_step<R>(sums, w + i * kStepBytes, codes + 4 * i, stride);
    } else {
      for (int64_t i = 0; i < steps; ++i) add_step<R>(sums, w + i * kStepBytes, codes + 4 * i, stride);
    }
  }

  // What a group's sums are multiplied by.
  static inline __m512 scale(const std::byte*, int, __m512 row_scale) { return row_scale; }
};

struct Int4Weights {
  static constexpr int64_t kGroupBytes = kInt4GroupBytes;

  template <int R>
  static inline void add_group(__m512i (&sums)[R][kColumns], const std::byte* group, const std::byte* codes,
                               int64_t stride, int64_t) {
    const __m512i half = _mm512_set1_epi8(0x0f);
    const std::byte* w = group + kInt4ScaleBytes;
#pragma GCC unroll 4
    for (int64_t i = 0; i < kGroupSteps / 2; ++i, w += kStepBytes, codes += 8) {
      __m512i weights[kColumns];
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) weights[c] = _mm512_and_si512(_mm512_loadu_si512(w + 64 * c), half);
      add_products<R>(sums, weights, codes, stride);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c)
        weights[c] = _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(w + 64 * c), 4), half);
      add_products<R>(sums, weights, codes + 4, stride);
    }
  }

  static inline __m512 scale(const std::byte* group, int column, __m512 row_scale) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(group + 32 * column));
    return _mm512_mul_ps(row_scale, _mm512_cvtph_ps(halves));
  }
};

template <class Weights, int R>
void run_strip(const Strip& s) {
  constexpr bool kInRegisters = R <= kRowsInRegisters;
  __m512 acc[kInRegisters ? R : 1][kColumns];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      float* out = s.out + r * s.out_stride + 16 * c;
      if constexpr (kInRegisters)
        acc[r][c] = s.resume ? _mm512_loadu_ps(out) : _mm512_setzero_ps();
      else if (!s.resume)
        _mm512_storeu_ps(out, _mm512_setzero_ps());
    }
  }
  const std::byte* w = s.w;
  const std::byte* codes = s.codes;
  const std::byte* next = s.next;
  for (int64_t g = 0; g < s.groups; ++g, w += Weights::kGroupBytes, codes += kQuantGroup) {
    for (int64_t i = 0; i < s.next_lines; ++i, next += kLine)
      _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T0);
    __m512i sums[R][kColumns];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m512i first = _mm512_set1_epi32(s.corrections[r * s.group_stride + g]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sums[r][c] = first;
    }
    Weights::template add_group<R>(sums, w, codes, s.code_stride, g + 1 < s.groups ? kGroupSteps : s.last_steps);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m512 row_scale = _mm512_set1_ps(s.scales[r * s.group_stride + g]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) {
        const __m512 sum = _mm512_cvtepi32_ps(sums[r][c]), scale = Weights::scale(w, c, row_scale);
        float* out = s.out + r * s.out_stride + 16 * c;
        if constexpr (kInRegisters)
          acc[r][c] = _mm512_fmadd_ps(sum, scale, acc[r][c]);
        else
          _mm512_storeu_ps(out, _mm512_fmadd_ps(sum, scale, _mm512_loadu_ps(out)));
      }
    }
  }
  if constexpr (kInRegisters) {
#pragma GCC unroll 3
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) _mm512_storeu_ps(s.out + r * s.out_stride + 16 * c, acc[r][c]);
    }
  }
}

template <class Weights>
void run_rows(int64_t rows, const Strip& s) {
  switch (rows) {
    case 1: return run_strip<Weights, 1>(s);
    case 2: return run_strip<Weights, 2>(s);
    case 3: return run_strip<Weights, 3>(s);
    case 4: return run_strip<Weights, 4>(s);
    case 5: return run_strip<Weights, 5>(s);
    default: return run_strip<Weights, kRowTile>(s);
  }
}

// Walks k in blocks of groups, all rows over one block of a panel before the next; while they compute, the strips bring
// the block behind theirs near, a share each.
template <class Weights>
void run_tile(const Gemm& g, const GemmRows& rows, const GemmTile& tile, int64_t group_block, float* out) {
  const int64_t groups = div_up(g.w.k, kQuantGroup);
  const int64_t panel_bytes = gemm_panel_bytes(g.w.dtype, g.w.k);
  const int64_t strips = div_up(tile.rows, kRowTile);
  const int64_t lines = div_up(Weights::kGroupBytes / kLine, at_most(strips, 4));
  const std::byte* panel = static_cast<const std::byte*>(g.w.data) + tile.panel * panel_bytes;
  for (int64_t p = 0; p < tile.panels; ++p, panel += panel_bytes) {
    for (int64_t group = 0; group < groups; group += group_block) {
      Strip s;
      s.code_stride = rows.stride;
      s.group_stride = groups;
      s.w = panel + group * Weights::kGroupBytes;
      s.groups = at_most(group_block, groups - group);
      const int64_t left = g.w.k - (group + s.groups - 1) * kQuantGroup;
      s.last_steps = at_most(div_up(left, 4), kGroupSteps);
      s.resume = group > 0;
      s.out_stride = tile.panels * kPanel;
      const std::byte* const end = s.w + s.groups * Weights::kGroupBytes;
      const bool follows = group + s.groups < groups || p + 1 < tile.panels || tile.more;
      // At the end of a panel that is no whole number of groups, the next one starts before `end`: all the same.
      const std::byte* const next_end = end + (follows ? s.groups * Weights::kGroupBytes : 0);
      s.next = end;
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t first = tile.rows * i / strips, row = tile.row + first;
        s.codes = rows.a + row * rows.stride + group * kQuantGroup;
        s.scales = rows.group_scales + row * groups + group;
        s.corrections = rows.corrections + row * groups + group;
        s.out = out + first * s.out_stride + p * kPanel;
        s.next_lines = s.next < next_end ? lines : 0;
        run_rows<Weights>(tile.rows * (i + 1) / strips - first, s);
        s.next += s.groups * s.next_lines * kLine;
      }
    }
  }
}

}  // namespace

void gemm_tile_int8(const Gemm& g, const GemmRows& a, const GemmTile& tile, int64_t step_block, float* out) {
  // A single strip fetches what is close by: at 4 rows it took half as long again without.
  const int64_t steps = tile.rows <= kRowTile ? kNearStepBlock : step_block;
  if (g.w.dtype == DType::int8)
    run_tile<Int8Weights>(g, a, tile, steps / kGroupSteps, out);
  else
    run_tile<Int4Weights>(g, a, tile, steps / kGroupSteps, out);
}

}  // namespace swiftkv::cpu::avx512
