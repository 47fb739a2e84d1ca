// Activations to fp8 codes with one scale per row.
#include "backends/cpu/avx512/fp8.h"
#include "backends/cpu/avx512/lanes.h"
#include "backends/cpu/avx512/ops.h"
#include "backends/cpu/avx512/visit_float.h"

namespace swiftkv::cpu::avx512 {

Status quantize_rows(const QuantizeRowsParams& p, const Context& c) {
  visit_float(p.a.dtype, [&]<class T>(T) {
    c.parallel_for(p.rows, [&](int64_t row, int) {
      const T* a = static_cast<const T*>(p.a.data) + row * p.dim;
      __m512 most = _mm512_setzero_ps();
      for (int64_t i = 0; i < p.dim; i += 16)  // max returns its second operand when the first is NaN
        most = _mm512_max_ps(_mm512_abs_ps(load_lanes(a + i, first_lanes(p.dim - i))), most);
      const float scale = fp8_scale(max_lanes(most));
      const __m512 divisor = _mm512_set1_ps(scale);
      for (int64_t i = 0; i < p.dim; i += 16) {
        const __mmask16 m = first_lanes(p.dim - i);
        _mm_mask_storeu_epi8(p.codes + row * p.dim + i, m, encode_fp8(_mm512_div_ps(load_lanes(a + i, m), divisor)));
      }
      p.scales[row] = scale;
    });
  });
  return {};
}

}  // namespace swiftkv::cpu::avx512
