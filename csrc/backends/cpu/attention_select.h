// Which sequences of a half go to attention_decode and which to attention_prefill.
#pragma once

#include "core/ops.h"

namespace swiftkv::cpu {

static inline bool selected(QuerySelect select, int32_t query_rows) {
  switch (select) {
    case QuerySelect::all: return query_rows > 0;
    case QuerySelect::one_row: return query_rows == 1;
    case QuerySelect::many_rows: return query_rows > 1;
  }
  return false;
}

struct SequenceCounts {
  int32_t one_row;
  int32_t many_rows;
};

static inline SequenceCounts count_sequences(const RowsView& half) {
  SequenceCounts counts{0, 0};
  for (int32_t b = 0; b < half.num_seqs; ++b) {
    const int32_t query_rows = half.query_start[b + 1] - half.query_start[b];
    counts.one_row += selected(QuerySelect::one_row, query_rows);
    counts.many_rows += selected(QuerySelect::many_rows, query_rows);
  }
  return counts;
}

}  // namespace swiftkv::cpu
