// Token embedding: rows of the table, widened. The table may be the head's own panels (tied embeddings).
#include <cstdio>

#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/pack.h"
#include "backends/cpu/scalar/ops.h"

namespace swiftkv::cpu::avx512 {

namespace {

Status bad_id(const EmbedParams& p, int64_t row) {
  Status s;
  s.code = Code::invalid_argument;
  std::snprintf(s.message, sizeof s.message, "Expected token ids in [0, %lld) but received %d in row %lld",
                static_cast<long long>(p.table.n), p.ids[row], static_cast<long long>(row));
  return s;
}

__m512 widen(bf16, __m256i halves) {
  return widen_bf16(halves);
}

__m512 widen(f16, __m256i halves) {
  return _mm512_cvtph_ps(halves);
}

// Row `id` of panels: words of 4 bytes (one f32, or the pair at 2i, 2i+1) lie 64 words apart.
template <class T>
void panel_row(const Matrix& table, int64_t id, float* x) {
  constexpr int64_t kPerWord = 4 / sizeof(T);
  const T* first = static_cast<const T*>(table.data) + panel_index(table.dtype, table.k, id, 0);
  const uint32_t* words = reinterpret_cast<const uint32_t*>(first);
  const __m512i lanes = _mm512_setr_epi32(0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960);
  const int64_t count = (table.k + kPerWord - 1) / kPerWord;
  for (int64_t i = 0; i < count; i += 16) {
    const __m512i w =
        _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), first_lanes(count - i), lanes, words + i * kPanel, 4);
    const int64_t at = i * kPerWord, left = table.k - at;
    if constexpr (kPerWord == 1) {
      store_lanes(x + at, first_lanes(left), _mm512_castsi512_ps(w));
    } else {
      store_lanes(x + at, first_lanes(left), widen(T{}, _mm512_castsi512_si256(w)));
      if (left > 16) store_lanes(x + at + 16, first_lanes(left - 16), widen(T{}, _mm512_extracti64x4_epi64(w, 1)));
    }
  }
}

template <class T>
void embed_rows(const EmbedParams& p, const Context& c) {
  const int64_t d = p.table.k;
  c.parallel_for(p.rows, [&](int64_t row, int) {
    const int64_t id = p.ids[row];
    float* x = p.x + row * d;
    if (p.table.layout == Layout::panels) return panel_row<T>(p.table, id, x);
    const T* from = static_cast<const T*>(p.table.data) + id * d;
    for (int64_t i = 0; i < d; i += 16) {
      const __mmask16 m = first_lanes(d - i);
      store_lanes(x + i, m, load_lanes(from + i, m));
    }
  });
}

}  // namespace

Status embed(const EmbedParams& p, const Context& c) {
  for (int64_t row = 0; row < p.rows; ++row) {
    if (p.ids[row] < 0 || p.ids[row] >= p.table.n) return bad_id(p, row);
  }
  if (is_quantized(p.table.dtype)) return scalar::embed(p, c);  // rows per token: waits for memory
  switch (p.table.dtype) {
    case DType::bf16: embed_rows<bf16>(p, c); break;
    case DType::f16: embed_rows<f16>(p, c); break;
    default: embed_rows<float>(p, c);
  }
  return {};
}

}  // namespace swiftkv::cpu::avx512
