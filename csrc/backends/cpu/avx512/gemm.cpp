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
  bool resume;         // sums of the earlier blocks are in the tile
  float* tile;
  int64_t tile_stride;
};

template <class Step, int R>
void run_strip(const Strip& s) {
  __m512 acc[R][kColumns];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c)
      acc[r][c] = s.resume ? _mm512_loadu_ps(s.tile + r * s.tile_stride + 16 * c) : _mm512_setzero_ps();
  }

  const std::byte* a = s.a;
  const std::byte* w = s.w;
  const int64_t stride = s.a_stride;
  for (int64_t i = 0; i < s.steps; ++i, a += Step::kBytes, w += kStepBytes) {
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
    for (int c = 0; c < kColumns; ++c) _mm512_storeu_ps(s.tile + r * s.tile_stride + 16 * c, acc[r][c]);
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

template <class Step>
void run_tile(const Gemm& g, int64_t row, int64_t rows, int64_t panel, int64_t panels, float* tile) {
  constexpr int64_t kElementBytes = Step::kBytes / Step::kElements;
  const int64_t k = g.w.k;
  const int64_t a_stride = k * kElementBytes;
  const int64_t steps = gemm_steps(g.w.dtype, k);
  const int64_t whole_steps = k / Step::kElements;
  const std::byte* a = static_cast<const std::byte*>(g.a) + row * a_stride;
  const std::byte* w = static_cast<const std::byte*>(g.w.data);
  // Rows are spread evenly over the strips: 5 + 5 is faster than 6 + 4.
  const int64_t strips = (rows + kRowTile - 1) / kRowTile;
  for (int64_t p = 0; p < panels; ++p) {
    for (int64_t step = 0; step == 0 || step < whole_steps; step += kStepBlock) {
      const int64_t end = step + kStepBlock < whole_steps ? step + kStepBlock : whole_steps;
      Strip s;
      s.a_stride = a_stride;
      s.w = w + ((panel + p) * steps + step) * kStepBytes;
      s.steps = end - step;
      s.odd = whole_steps < steps && end == whole_steps;
      s.resume = step > 0;
      s.tile_stride = panels * kPanel;
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t begin = rows * i / strips;
        s.a = a + begin * a_stride + step * Step::kBytes;
        s.tile = tile + begin * s.tile_stride + p * kPanel;
        run_rows<Step>(rows * (i + 1) / strips - begin, s);
      }
    }
  }
}

}  // namespace

void gemm_tile(const Gemm& g, int64_t row, int64_t rows, int64_t panel, int64_t panels, float* tile) {
  if (g.w.dtype == DType::bf16)
    run_tile<StepBf16>(g, row, rows, panel, panels, tile);
  else
    run_tile<StepF32>(g, row, rows, panel, panels, tile);
}

}  // namespace swiftkv::cpu::avx512
