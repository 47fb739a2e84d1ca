// The microkernels of every matrix product: 1 to 6 rows x 64 outputs, one template for all row counts and dtypes.
#include "backends/cpu/avx512/gemm.h"

#include <immintrin.h>

#include <cstring>

namespace swiftkv::cpu::avx512 {
namespace {

// What differs between dtypes: how many elements a step takes and what a step does.
struct StepF32 {
  static constexpr int64_t kElements = 1;
  static constexpr int64_t kBytes = 4;

  static inline __m512 broadcast(const std::byte* a) {
    float x;
    std::memcpy(&x, a, sizeof x);
    return _mm512_set1_ps(x);
  }
  static inline __m512 multiply_add(__m512 acc, __m512 a, __m512 w) { return _mm512_fmadd_ps(a, w, acc); }
};

struct StepBf16 {
  static constexpr int64_t kElements = 2;
  static constexpr int64_t kBytes = 4;

  static inline __m512 broadcast(const std::byte* a) {
    uint32_t pair;
    std::memcpy(&pair, a, sizeof pair);
    return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int32_t>(pair)));
  }
  // The last element of an odd row: its partner would lie beyond the row.
  static inline __m512 broadcast_last(const std::byte* a) {
    uint16_t one;
    std::memcpy(&one, a, sizeof one);
    return _mm512_castsi512_ps(_mm512_set1_epi32(one));
  }
  static inline __m512 multiply_add(__m512 acc, __m512 a, __m512 w) {
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(w));
  }
};

constexpr int kColumns = kPanel / 16;  // zmm across a panel

// One block of k for R rows of one panel.
struct Strip {
  const std::byte* a;  // row 0 at the block's first k
  int64_t a_stride;    // bytes
  const std::byte* w;  // the panel at the block's first step
  int64_t steps;       // whole steps
  bool odd;            // one more element follows (bf16, the end of an odd k)
  bool resume;         // sums of the earlier blocks are in out
  float* out;
  int64_t out_stride;
  const std::byte* next;  // weights to bring near while this strip computes
  int64_t next_stride;    // bytes of them a step: 0 (none), 64 or 128
};

template <class Step, int R>
void run_strip(const Strip& s) {
  __m512 acc[R][kColumns];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c)
      acc[r][c] = s.resume ? _mm512_loadu_ps(s.out + r * s.out_stride + 16 * c) : _mm512_setzero_ps();
  }

  const std::byte* a = s.a;
  const std::byte* w = s.w;
  const int64_t stride = s.a_stride;
  // Without a next block its address is prefetched over and over: one load slot of a line that is already near.
  const std::byte* next = s.next_stride == 0 ? s.w : s.next;
  for (int64_t i = 0; i < s.steps; ++i, a += Step::kBytes, w += kStepBytes, next += s.next_stride) {
    _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(next + s.next_stride / 2), _MM_HINT_T0);
    __m512 weights[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) weights[c] = _mm512_loadu_ps(w + 64 * c);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m512 x = Step::broadcast(a + r * stride);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) acc[r][c] = Step::multiply_add(acc[r][c], x, weights[c]);
    }
  }
  if constexpr (Step::kElements == 2) {
    if (s.odd) {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512 x = Step::broadcast_last(a + r * stride);
#pragma GCC unroll 4
        for (int c = 0; c < kColumns; ++c) acc[r][c] = Step::multiply_add(acc[r][c], x, _mm512_loadu_ps(w + 64 * c));
      }
    }
  }

#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) _mm512_storeu_ps(s.out + r * s.out_stride + 16 * c, acc[r][c]);
  }
}

template <class Step>
void run_rows(int64_t rows, const Strip& s) {
  switch (rows) {
    case 1: return run_strip<Step, 1>(s);
    case 2: return run_strip<Step, 2>(s);
    case 3: return run_strip<Step, 3>(s);
    case 4: return run_strip<Step, 4>(s);
    case 5: return run_strip<Step, 5>(s);
    default: return run_strip<Step, kRowTile>(s);
  }
}

// Walks k in blocks, all rows over one block of a panel before the next. While the strips compute, each brings a part
// of the block behind theirs near: 64 or 128 bytes a step, so that four strips (two, if there are only two or three)
// bring it all. A single strip leaves that to the hardware, which does it as well.
template <class Step>
void run_tile(const Gemm& g, const GemmTile& tile, int64_t step_block, float* out) {
  const int64_t k = g.w.k;
  const int64_t a_stride = k * (Step::kBytes / Step::kElements);
  const int64_t steps = gemm_steps(g.w.dtype, k);
  const int64_t whole_steps = k / Step::kElements;
  const std::byte* a = static_cast<const std::byte*>(g.a) + tile.row * a_stride;
  const std::byte* w = static_cast<const std::byte*>(g.w.data) + tile.panel * steps * kStepBytes;
  // Rows are spread evenly over the strips: 5 + 5 is faster than 6 + 4.
  const int64_t strips = div_up(tile.rows, kRowTile);
  const int64_t near = strips == 1 ? 0 : strips < 4 ? 128 : 64;
  for (int64_t p = 0; p < tile.panels; ++p) {
    for (int64_t step = 0; step == 0 || step < whole_steps; step += step_block) {
      const int64_t end = at_most(step + step_block, whole_steps);
      Strip s;
      s.a_stride = a_stride;
      s.w = w + (p * steps + step) * kStepBytes;
      s.steps = end - step;
      s.odd = whole_steps < steps && end == whole_steps;
      s.resume = step > 0;
      s.out_stride = tile.panels * kPanel;
      s.next = s.w + s.steps * kStepBytes;
      // The block behind may be shorter: what is brought beyond it is harmless, and a prefetch cannot fault.
      const bool follows = end < whole_steps || p + 1 < tile.panels || tile.more;
      const std::byte* next_end = s.next + (follows ? s.steps * kStepBytes : 0);
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t row = tile.rows * i / strips;
        s.a = a + row * a_stride + step * Step::kBytes;
        s.out = out + row * s.out_stride + p * kPanel;
        s.next_stride = s.next < next_end ? near : 0;
        run_rows<Step>(tile.rows * (i + 1) / strips - row, s);
        s.next += s.steps * s.next_stride;
      }
    }
  }
}

}  // namespace

void gemm_tile(const Gemm& g, const GemmTile& tile, int64_t step_block, float* out) {
  if (g.w.dtype == DType::bf16)
    run_tile<StepBf16>(g, tile, step_block, out);
  else
    run_tile<StepF32>(g, tile, step_block, out);
}

}  // namespace swiftkv::cpu::avx512
