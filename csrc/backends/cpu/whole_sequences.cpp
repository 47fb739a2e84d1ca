#include "backends/cpu/whole_sequences.h"

namespace swiftkv::cpu {

Status check_whole_sequences(const RowsView& half) {
  for (int32_t b = 0; b < half.num_seqs; ++b) {
    const int32_t first = half.query_start[b], length = half.query_start[b + 1] - first;
    if (half.context_len[b] != length) {
      return fail(
          Code::invalid_argument,
          "attention_backward: context length of sequence %d is %d, expected %d: all its keys are rows of the call", b,
          half.context_len[b], length);
    }
    for (int32_t i = 0; i < length; ++i) {
      if (half.positions[first + i] == i) continue;
      return fail(
          Code::invalid_argument,
          "attention_backward: position of row %d is %d, expected %d: sequence %d begins at row %d with position 0",
          first + i, half.positions[first + i], i, b, first);
    }
  }
  return {};
}

}  // namespace swiftkv::cpu
