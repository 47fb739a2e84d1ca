// The microkernels of every matrix product: 1 to 6 rows x 64 outputs, one template for all row counts and dtypes.
#include "backends/cpu/avx512/gemm.h"

#include <immintrin.h>

#include <cstring>

#include "backends/cpu/avx512/fp8.h"

namespace swiftkv::cpu::avx512 {
namespace {

// What differs between dtypes: how a step's weights come into registers, and what is done with them. A step takes
// kBytes of a row and kWeightBytes of the panel; kElements of k, in kParts multiply-adds.
constexpr int kColumns = kPanel / 16;  // zmm across a panel

inline void load_step(const std::byte* w, __m512 (&weights)[kColumns]) {
#pragma GCC unroll 4
  for (int c = 0; c < kColumns; ++c) weights[c] = _mm512_loadu_ps(w + 64 * c);
}

// A step of fp8 as bf16 pairs.
inline void load_fp8(const std::byte* w, __m512 (&weights)[kColumns]) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const Fp8Pairs pairs = widen_fp8(_mm512_loadu_si512(w + 64 * half));
    weights[2 * half] = _mm512_castsi512_ps(pairs.low);
    weights[2 * half + 1] = _mm512_castsi512_ps(pairs.high);
  }
}

// The elements of bf16 pairs as f32.
inline __m512 even_f32(__m512 pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
}
inline __m512 odd_f32(__m512 pairs) {
  return _mm512_castsi512_ps(
      _mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u))));
}

struct StepF32 {
  static constexpr int64_t kElements = 1;
  static constexpr int64_t kBytes = 4;
  static constexpr int64_t kWeightBytes = kStepBytes;
  static constexpr int kParts = 1;

  static inline void load(const std::byte* w, __m512 (&weights)[kColumns]) { load_step(w, weights); }
  static inline __m512 part(__m512 weights, int) { return weights; }
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
  static constexpr int64_t kWeightBytes = kStepBytes;
  static constexpr int kParts = 1;

  static inline void load(const std::byte* w, __m512 (&weights)[kColumns]) { load_step(w, weights); }
  static inline __m512 part(__m512 weights, int) { return weights; }
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

// Codes of fp8, widened in registers to what StepBf16 and StepF32 multiply.
struct StepFp8Bf16 : StepBf16 {
  static constexpr int64_t kWeightBytes = kFp8StepBytes;
  static inline void load(const std::byte* w, __m512 (&weights)[kColumns]) { load_fp8(w, weights); }
};

struct StepFp8F32 : StepF32 {
  static constexpr int64_t kElements = 2;
  static constexpr int64_t kBytes = 8;
  static constexpr int64_t kWeightBytes = kFp8StepBytes;
  static constexpr int kParts = 2;
  static inline void load(const std::byte* w, __m512 (&weights)[kColumns]) { load_fp8(w, weights); }
  static inline __m512 part(__m512 pairs, int i) { return i == 0 ? even_f32(pairs) : odd_f32(pairs); }
  static inline __m512 broadcast_last(const std::byte* a) { return broadcast(a); }
};

// One block of k for R rows of one panel.
struct Strip {
  const std::byte* a;  // row 0 at the block's first k
  int64_t a_stride;    // bytes
  const std::byte* w;  // the panel at the block's first step
  int64_t steps;       // whole steps
  bool odd;            // one more element follows (steps of two, the end of an odd k)
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
  for (int64_t i = 0; i < s.steps; ++i, a += Step::kBytes, w += Step::kWeightBytes, next += s.next_stride) {
    _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(next + s.next_stride / 2), _MM_HINT_T0);
    __m512 weights[kColumns];
    Step::load(w, weights);
#pragma GCC unroll 2
    for (int part = 0; part < Step::kParts; ++part) {
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512 x = Step::broadcast(a + r * stride + 4 * part);
#pragma GCC unroll 4
        for (int c = 0; c < kColumns; ++c) acc[r][c] = Step::multiply_add(acc[r][c], x, Step::part(weights[c], part));
      }
    }
  }
  if constexpr (Step::kElements == 2) {
    if (s.odd) {
      __m512 weights[kColumns];
      Step::load(w, weights);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const __m512 x = Step::broadcast_last(a + r * stride);
#pragma GCC unroll 4
        for (int c = 0; c < kColumns; ++c) acc[r][c] = Step::multiply_add(acc[r][c], x, Step::part(weights[c], 0));
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

// `steps` of fp8 as steps of bf16 pairs, or as twice as many of f32.
void widen_block(const std::byte* w, int64_t steps, bool to_f32, std::byte* out) {
  for (int64_t i = 0; i < steps; ++i, w += kFp8StepBytes) {
    __m512 pairs[kColumns];
    load_fp8(w, pairs);
    for (int part = 0; part < (to_f32 ? 2 : 1); ++part, out += kStepBytes) {
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) {
        const __m512 wide = !to_f32 ? pairs[c] : part == 0 ? even_f32(pairs[c]) : odd_f32(pairs[c]);
        _mm512_store_ps(out + 64 * c, wide);
      }
    }
  }
}

// So few rows widen codes of fp8 in registers, twice in two strips; more share a block that is widened once. At 8 rows
// that was 1.2 to 2 times as fast, at 12 neither.
constexpr int64_t kFp8RowsInRegisters = 8;

// How far ahead of itself a strip brings codes of fp8 near while it widens others: the hardware alone falls behind.
constexpr int64_t kFp8Ahead = 4 << 10;

// Walks k in blocks, all rows over one block of a panel before the next. While the strips compute, each brings a part
// of the block behind theirs near: 64 or 128 bytes a step, so that four strips (two, if there are only two or three)
// bring it all. A single strip leaves that to the hardware, which does it as well.
// kWiden: the weights are fp8, and a block is widened to the steps of Step before the strips walk it. The codes behind
// it are half the bytes of bf16, a quarter of f32.
template <class Step, bool kWiden>
void run_tile(const Gemm& g, const GemmRows& rows, const GemmTile& tile, int64_t step_block, std::byte* block,
              float* out) {
  const int64_t k = g.w.k;
  // Steps of the last block may be one more than whole ones.
  const int64_t steps = div_up(k, Step::kElements), whole_steps = k / Step::kElements;
  const int64_t a_stride = rows.stride;
  const int64_t panel_bytes = gemm_panel_bytes(g.w.dtype, k);
  // Bytes in memory of a step; f32 steps widened from fp8 come in twos.
  constexpr int64_t kCodeBytes = kFp8StepBytes * Step::kElements / 2;
  constexpr int64_t kBytes = kWiden ? kCodeBytes : Step::kWeightBytes;
  const std::byte* a = rows.a + tile.row * a_stride;
  const std::byte* w = static_cast<const std::byte*>(g.w.data) + tile.panel * panel_bytes;
  // Rows are spread evenly over the strips: 5 + 5 is faster than 6 + 4.
  const int64_t strips = div_up(tile.rows, kRowTile);
  const int64_t near = strips == 1 ? 0 : (strips < 4 ? 128 : 64) * kBytes / kStepBytes;
  for (int64_t p = 0; p < tile.panels; ++p) {
    for (int64_t step = 0; step == 0 || step < whole_steps; step += step_block) {
      const int64_t end = at_most(step + step_block, whole_steps);
      const std::byte* const from = w + p * panel_bytes + step * kBytes;
      Strip s;
      s.a_stride = a_stride;
      s.w = from;
      s.steps = end - step;
      s.odd = whole_steps < steps && end == whole_steps;
      s.resume = step > 0;
      s.out_stride = tile.panels * kPanel;
      s.next = from + s.steps * kBytes;
      // The block behind may be shorter: what is brought beyond it is harmless, and a prefetch cannot fault.
      const bool follows = end < whole_steps || p + 1 < tile.panels || tile.more;
      const std::byte* next_end = s.next + (follows ? s.steps * kBytes : 0);
      if constexpr (kWiden) {
        const int64_t elements = s.steps * Step::kElements + (s.odd ? 1 : 0);
        widen_block(from, div_up(elements, 2), Step::kElements == 1, block);
        s.w = block;
      }
      for (int64_t i = 0; i < strips; ++i) {
        const int64_t row = tile.rows * i / strips;
        s.a = a + row * a_stride + step * Step::kBytes;
        s.out = out + row * s.out_stride + p * kPanel;
        s.next_stride = s.next < next_end ? near : 0;
        if constexpr (Step::kWeightBytes == kFp8StepBytes) {
          s.next = from + kFp8Ahead;
          s.next_stride = kFp8StepBytes;
        }
        run_rows<Step>(tile.rows * (i + 1) / strips - row, s);
        s.next += s.steps * s.next_stride;
      }
    }
  }
}

}  // namespace

void gemm_tile(const Gemm& g, const GemmRows& a, const GemmTile& tile, int64_t step_block, std::byte* block,
               float* out) {
  const bool in_bf16 = arithmetic_of(g) == Arithmetic::bf16;
  if (g.w.dtype != DType::fp8_e4m3)
    return in_bf16 ? run_tile<StepBf16, false>(g, a, tile, step_block, block, out)
                   : run_tile<StepF32, false>(g, a, tile, step_block, block, out);
  if (tile.rows <= kFp8RowsInRegisters)
    return in_bf16 ? run_tile<StepFp8Bf16, false>(g, a, tile, step_block, block, out)
                   : run_tile<StepFp8F32, false>(g, a, tile, step_block, block, out);
  return in_bf16 ? run_tile<StepBf16, true>(g, a, tile, step_block, block, out)
                 : run_tile<StepF32, true>(g, a, tile, step_block, block, out);
}

void scale_tile(const Gemm& g, const GemmRows& a, const GemmTile& tile, float* sums) {
  if (g.w.dtype == DType::int4) return;  // its scales are in the sums
  const int64_t width = tile.panels * kPanel;
  const float* scales = output_scales(g.w) + tile.panel * kPanel;
  for (int64_t r = 0; r < tile.rows; ++r, sums += width) {
    const __m512 row_scale = _mm512_set1_ps(a.row_scales == nullptr ? 1.0f : a.row_scales[tile.row + r]);
    for (int64_t c = 0; c < width; c += 16) {
      __m512 sum = _mm512_loadu_ps(sums + c);
      if (a.row_scales != nullptr) sum = _mm512_mul_ps(sum, row_scale);
      _mm512_storeu_ps(sums + c, _mm512_mul_ps(sum, _mm512_loadu_ps(scales + c)));
    }
  }
}

}  // namespace swiftkv::cpu::avx512
