// Token embedding: rows of the table, widened.
#include "backends/cpu/pack.h"
#include "backends/cpu/pack_quantized.h"
#include "backends/cpu/scalar/ops.h"
#include "backends/cpu/visit_float.h"

namespace swiftkv::cpu::scalar {

Status embed(const EmbedParams& p, const Context& c) {
  if (is_quantized(p.table.dtype)) {
    c.parallel_for(p.rows, [&](int64_t i, int) { read_quantized_row(p.table, p.ids[i], p.x + i * p.table.k); });
    return {};
  }
  return visit_float(p.table.dtype, "the embedding table", [&]<class T>(T) {
    const T* table = static_cast<const T*>(p.table.data);
    const int64_t d = p.table.k;
    c.parallel_for(p.rows, [&](int64_t i, int) {
      for (int64_t j = 0; j < d; ++j) p.x[i * d + j] = to_f32(table[matrix_index(p.table, p.ids[i], j)]);
    });
    return Status{};
  });
}

}  // namespace swiftkv::cpu::scalar
