// Quantizes activations row by row.
#include "backends/cpu/avx512/gemm_rows.h"

#include <immintrin.h>

#include "backends/cpu/avx512/fp8.h"
#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/visit_float.h"

namespace swiftkv::cpu::avx512 {
namespace {

// Elements that one claim of a thread prepares, about 5 us; so many are not worth waking another thread.
constexpr int64_t kPrepareElements = 32 << 10;

int64_t aligned(int64_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// Codes of one row widened to bf16, which holds them exactly; returns the row's scale.
template <class T>
float fp8_row(const T* a, int64_t k, bf16* out) {
  __m512 most = _mm512_setzero_ps();
  for (int64_t i = 0; i < k; i += 16)  // max returns its second operand when the first is NaN
    most = _mm512_max_ps(_mm512_abs_ps(load_lanes(a + i, first_lanes(k - i))), most);
  const float scale = fp8_scale(max_lanes(most));
  const __m512 divisor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < k; i += 16) {
    const __mmask16 m = first_lanes(k - i);
    store_lanes(out + i, m, decode_fp8(encode_fp8(_mm512_div_ps(load_lanes(a + i, m), divisor))));
  }
  return scale;
}

int32_t sum_lanes_i32(__m512i v) {
  const __m256i h = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  const __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  const __m128i d = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(d, _mm_shuffle_epi32(d, 0xb1)));
}

// As integers, magnitudes order like numbers, with infinity and NaN above all.
int32_t max_lanes_i32(__m512i v) {
  const __m256i h = _mm256_max_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  const __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
  const __m128i d = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(d, _mm_shuffle_epi32(d, 0xb1)));
}

// zero: what stored weight codes are above their value. Codes are padded with 0 to a whole group.
template <class T>
void int8_row(const T* a, int64_t k, int32_t zero, int8_t* codes, float* scales, int32_t* corrections) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  for (int64_t i = 0; i < k; i += kQuantGroup, ++scales, ++corrections, codes += kQuantGroup) {
    const __m512 low = load_lanes(a + i, first_lanes(k - i));
    const __mmask16 rest = k - i > 16 ? first_lanes(k - i - 16) : __mmask16{0};
    const __m512 high = load_lanes(a + i + 16, rest);
    const __m512i bits = _mm512_max_epi32(_mm512_and_epi32(_mm512_castps_si512(low), magnitude),
                                          _mm512_and_epi32(_mm512_castps_si512(high), magnitude));
    const float most = __builtin_bit_cast(float, max_lanes_i32(bits));
    const bool finite = most < __builtin_inff();  // false for NaN
    if (!finite || most < kQuantLeast) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes), _mm256_setzero_si256());
      *scales = finite ? 0.0f : __builtin_nanf("");
      *corrections = 0;
      continue;
    }
    const __m512 inverse = _mm512_set1_ps(127.0f / most);
    const __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));  // to nearest, ties to even
    const __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_cvtepi32_epi8(q0));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + 16), _mm512_cvtepi32_epi8(q1));
    *scales = most / 127.0f;
    *corrections = -zero * sum_lanes_i32(_mm512_add_epi32(q0, q1));
  }
}

template <class F>
void for_rows(int64_t rows, int64_t k, const Context& ctx, const F& f) {
  const int64_t at_once = at_least(kPrepareElements / at_least(k, 1), 1);
  if (rows <= at_once) {
    for (int64_t r = 0; r < rows; ++r) f(r);
    return;
  }
  ctx.parallel_for(div_up(rows, at_once), [&](int64_t piece, int) {
    for (int64_t r = piece * at_once; r < at_most((piece + 1) * at_once, rows); ++r) f(r);
  });
}

}  // namespace

size_t prepared_bytes(const Gemm& g, int64_t rows) {
  const int64_t k = g.w.k, groups = div_up(k, kQuantGroup);
  if (arithmetic_of(g) == Arithmetic::int8)
    return static_cast<size_t>(aligned(rows * code_row_bytes(k)) + 2 * aligned(rows * groups * 4));
  if (!g.fp8_activations) return 0;
  return static_cast<size_t>(aligned(rows * k * 2) + aligned(rows * 4));
}

GemmRows prepare_rows(const Gemm& g, int64_t rows, std::byte* scratch, const Context& ctx) {
  const int64_t k = g.w.k, groups = div_up(k, kQuantGroup);
  GemmRows r{};
  if (arithmetic_of(g) == Arithmetic::int8) {
    auto* codes = reinterpret_cast<int8_t*>(scratch);
    auto* scales = reinterpret_cast<float*>(scratch + aligned(rows * code_row_bytes(k)));
    auto* corrections = reinterpret_cast<int32_t*>(reinterpret_cast<std::byte*>(scales) + aligned(rows * groups * 4));
    const int32_t zero = g.w.dtype == DType::int8 ? kInt8Zero : kInt4Zero;
    visit_float(g.a.dtype, [&]<class T>(T) {
      for_rows(rows, k, ctx, [&](int64_t row) {
        int8_row(static_cast<const T*>(g.a.data) + row * k, k, zero, codes + row * code_row_bytes(k),
                 scales + row * groups, corrections + row * groups);
      });
    });
    r.a = scratch;
    r.stride = code_row_bytes(k);
    r.group_scales = scales;
    r.corrections = corrections;
  } else if (g.fp8_activations) {
    auto* out = reinterpret_cast<bf16*>(scratch);
    auto* scales = reinterpret_cast<float*>(scratch + aligned(rows * k * 2));
    visit_float(g.a.dtype, [&]<class T>(T) {
      for_rows(rows, k, ctx, [&](int64_t row) {
        scales[row] = fp8_row(static_cast<const T*>(g.a.data) + row * k, k, out + row * k);
      });
    });
    r.a = scratch;
    r.stride = k * 2;
    r.row_scales = scales;
  } else {
    r.a = static_cast<const std::byte*>(g.a.data);
    r.stride = k * dtype_bytes(g.a.dtype);
  }
  return r;
}

}  // namespace swiftkv::cpu::avx512
